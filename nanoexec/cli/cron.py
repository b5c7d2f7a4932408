"""``nanoexec cron``: crontab lines become fallbacks of actions, and become their own again."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Optional

import typer

from nanoexec.cli.options import PLAIN, ROOT, Plain, example, paths
from nanoexec.cli.plain import Commands

if TYPE_CHECKING:
    from collections.abc import Callable

    from nanoexec.actions import Catalog
    from nanoexec.crontab.plan import Plan
    from nanoexec.crontab.scan import Finding
    from nanoexec.crontab.status import Status

app = Commands(
    help="Crontab lines as fallbacks: see them, take them over, give them back.",
    epilog=example("nanoexec cron scan", "nanoexec cron adopt --all --plan", "nanoexec cron restore --all"),
)

ACTIONS: Final[Any] = typer.Argument(None, metavar="[ACTION]...", help="Their names.", show_default=False)
ACTION: Final[Any] = typer.Argument(..., metavar="ACTION", help="Its name.")
ALL: Final[Any] = typer.Option(False, "--all", help="The lines of every action.")
LOOK: Final[Any] = typer.Option(False, "--plan", help="Show what would change, and change nothing.")
YES: Final[Any] = typer.Option(False, "-y", "--yes", help="Do not ask.")
RUN: Final[Any] = typer.Option(
    None, "--run", metavar="FILE", help="Where nanoexec-run is, if not beside this program or on the PATH."
)


@app.command(epilog=example("nanoexec cron scan", "nanoexec cron scan -o json | jq '.[] | select(.action != \"\")'"))
def scan(output: Plain = PLAIN, root: Path = ROOT) -> None:
    """Show every line that cron runs, which action would take it over, and why others would not.

    Scripts in /etc/cron.daily and the like, anacron and systemd timers are shown with advice; they cannot be adopted.
    """
    from nanoexec.catalog import read_catalog
    from nanoexec.cli import render
    from nanoexec.crontab.scan import scan as look

    findings = look(paths(root), read_catalog(paths(root)))
    if output is Plain.JSON:
        render.print_json([render.plain(finding) | {"taken": finding.taken} for finding in findings])
        return
    for finding in findings:
        render.say(*(render.printable(line) for line in _lines(finding)))
    taken = sum(finding.taken for finding in findings)
    render.tell(f"{taken} can be adopted" + (": nanoexec cron adopt --all --plan shows how" if taken else ""))


@app.command(
    epilog=example(
        "nanoexec cron adopt puppet --plan",
        "nanoexec cron adopt --all --shadow --yes",
        "nanoexec cron adopt --line /etc/cron.d/site:3 slaughter",
    )
)
def adopt(
    actions: list[str] = ACTIONS,
    lines: list[str] = typer.Option(
        [], "--line", metavar="FILE:N", help="This line, whatever it runs and as whom; ACTION takes it over."
    ),
    everything: bool = ALL,
    shadow: bool = typer.Option(False, "--shadow", help="Cron goes on running them; only note what would be done."),
    look: bool = LOOK,
    yes: bool = YES,
    run: Optional[Path] = RUN,
    root: Path = ROOT,
) -> None:
    """Take crontab lines over: cron runs them only when no other run has done their work since the slot before.

    Exit status: 6 if an action that was named has no adopted line after all.
    """
    import time

    from nanoexec.cli import crontab
    from nanoexec.crontab.takeover import plan_adopt
    from nanoexec.errors import ExitCode

    where = paths(root)
    catalog = _catalog_with(root, actions or [])
    named = crontab.named_lines(where, lines, actions or []) if lines else []
    if not named:
        crontab.demand_choice(actions or [], everything=everything)
    if not look:
        crontab.demand_root(where)
    plan = plan_adopt(
        where,
        catalog,
        run=crontab.find_program(run),
        now=time.time(),
        actions=() if named else actions or (),
        lines=named,
        everything=everything,
        shadow=shadow,
    )
    crontab.carry_out(where, plan, done="adopted", look=look, yes=yes)
    if not look and not set(actions or ()) <= crontab.holding(where, shadow=shadow):
        raise typer.Exit(ExitCode.REFUSED)


@app.command(epilog=example("nanoexec cron restore slaughter", "nanoexec cron restore --all --yes"))
def restore(
    actions: list[str] = ACTIONS, everything: bool = ALL, look: bool = LOOK, yes: bool = YES, root: Path = ROOT
) -> None:
    """Give adopted lines back: the original bytes, and whatever somebody has changed on them since."""
    from nanoexec.crontab.takeover import plan_restore

    _change(plan_restore, actions or [], done="restored", everything=everything, look=look, yes=yes, root=root)


@app.command(epilog=example("nanoexec cron arm slaughter", "nanoexec cron arm --all --plan"))
def arm(
    actions: list[str] = ACTIONS, everything: bool = ALL, look: bool = LOOK, yes: bool = YES, root: Path = ROOT
) -> None:
    """Have lines that were adopted with --shadow run through nanoexec from now on."""
    from nanoexec.crontab.takeover import plan_arm

    _change(plan_arm, actions or [], done="armed", everything=everything, look=look, yes=yes, root=root)


@app.command(epilog=example('nanoexec cron schedule puppet "*/30 * * * *"', "nanoexec cron schedule puppet --every 1h"))
def schedule(
    action: str = ACTION,
    expression: Optional[str] = typer.Argument(None, metavar="[EXPRESSION]", help="When: five fields in quotes."),
    every: Optional[str] = typer.Option(
        None, "--every", metavar="DURATION", help="How often, at a minute that is this node's own."
    ),
    run: Optional[Path] = RUN,
    root: Path = ROOT,
) -> None:
    """Give an action that no crontab line runs a fallback of its own, in /etc/cron.d/nanoexec."""
    from nanoexec.cli import crontab, render
    from nanoexec.crontab import own
    from nanoexec.crontab.places import OWN_FILE
    from nanoexec.duration import parse_duration
    from nanoexec.errors import UsageError

    where = paths(root)
    manifest = _catalog_with(root, [action]).actions[action]
    if (expression is None) == (every is None):
        raise UsageError(f'when? nanoexec cron schedule {action} "17 * * * *", or --every 1h: one of the two')
    crontab.demand_root(where)
    if every is not None:
        expression = own.spread(action, crontab.node_name(where), int(parse_duration(every)))
    said = own.schedule(where, manifest, str(expression), run=crontab.find_program(run))
    render.say(f"{action}: {said}, in {where.root / OWN_FILE}")


@app.command(epilog=example("nanoexec cron unschedule puppet"))
def unschedule(action: str = ACTION, root: Path = ROOT) -> None:
    """Take away what ``nanoexec cron schedule`` gave an action."""
    from nanoexec.cli import crontab, render
    from nanoexec.crontab import own
    from nanoexec.crontab.places import OWN_FILE

    where = paths(root)
    crontab.demand_root(where)
    gone = own.unschedule(where, action)
    render.tell(f"{action}: its line is gone" if gone else f"{action}: no line in {where.root / OWN_FILE}")


@app.command(epilog=example("nanoexec cron status", "nanoexec cron status -o json | jq '.[] | select(.drift != [])'"))
def status(output: Plain = PLAIN, root: Path = ROOT) -> None:
    """Show each fallback: when it is due, whether it still has to run then, and what is no longer as it was left."""
    import time

    from nanoexec.catalog import read_catalog
    from nanoexec.cli import crontab, render
    from nanoexec.crontab.status import status as look
    from nanoexec.schedule import local

    where = paths(root)
    catalog = read_catalog(where)
    actions = {*catalog.actions, *crontab.holding(where)}
    found = look(where, catalog, crontab.past(where, actions), now=time.time(), zone=local)
    if output is Plain.JSON:
        render.print_json(render.plain(found))
        return
    if not found:
        render.tell("no action has a fallback schedule here: nanoexec cron scan shows what could be one")
        return
    heading = ("ACTION", "STATE", "SCHEDULE", "NEXT", "LAST SUCCESS", "SATISFIED", "POLICY", "LINE")
    render.say(*render.table([heading, *map(_standing, found)]))
    render.tell(*(render.printable(f"{_place(each)}: {drift}") for each in found for drift in each.drift))


@app.command(epilog=example("nanoexec cron tidy --plan", "nanoexec cron tidy --quiet"))
def tidy(
    look: bool = typer.Option(False, "--plan", help="Show what would be removed, and remove nothing."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Say nothing but errors."),
    root: Path = ROOT,
) -> None:
    """Remove what nobody needs any more: old backups of crontabs, old runs in the journal. Safe at any time.

    Kept are the backups of adopted lines, those of the last 90 days, and the last 10 of each crontab; and the runs of
    the last journal_days (agent.toml).
    """
    import time

    from nanoexec.cli import crontab, render

    where = paths(root)
    if not look:
        crontab.demand_root(where)
    gone = crontab.tidy(where, time.time(), look=look)
    if not quiet:
        render.tell(*gone)


def _change(
    draw_up: "Callable[..., Plan]",
    actions: list[str],
    *,
    done: str,
    everything: bool,
    look: bool,
    yes: bool,
    root: Path,
) -> None:
    """Plan a change of adopted lines and carry it out. Exit status 6 if none of them could be changed.

    Raises as `_catalog_with` for an action of which there is neither a line nor a manifest.
    """
    import time

    from nanoexec.cli import crontab
    from nanoexec.errors import ExitCode

    where = paths(root)
    crontab.demand_choice(actions, everything=everything)
    if not look:
        crontab.demand_root(where)
    plan = draw_up(where, now=time.time(), actions=actions, everything=everything)
    if actions:  # a name that means nothing is a slip
        met = crontab.known(where) | {refusal.action for refusal in plan.refusals}
        if strange := [action for action in actions if action not in met]:
            _catalog_with(root, strange)
    crontab.carry_out(where, plan, done=done, look=look, yes=yes)
    if plan.refusals and not plan.edits:
        raise typer.Exit(ExitCode.REFUSED)


def _catalog_with(root: Path, actions: list[str]) -> "Catalog":
    """The catalog. Raises `UsageError` for an action that this node does not know, `ConfigError` for a faulty one."""
    from nanoexec.catalog import read_catalog
    from nanoexec.errors import ConfigError, RefusedError, UsageError

    catalog = read_catalog(paths(root))
    for action in actions:
        try:
            catalog.find(action)
        except RefusedError as error:
            faulty = any(fault.action == action for fault in catalog.faults)
            raise (ConfigError if faulty else UsageError)(str(error)) from None
    return catalog


def _standing(one: "Status") -> tuple[str, ...]:
    from nanoexec.cli.render import moment

    due = moment(one.next) if one.next is not None else "-"
    last = moment(one.last_success) + (f", {one.cause}" if one.cause else "")
    satisfied = "yes" if one.satisfied else "no"
    state = str(one.state) or "gone"
    return one.action, state, one.schedule or "-", due, last, satisfied, str(one.policy), _place(one)


def _place(found: "Finding | Status") -> str:
    return f"{found.file}:{found.number}" if found.number else found.file


def _lines(finding: "Finding") -> list[str]:
    """A finding for reading: where, what becomes of it, and the line itself."""
    if finding.state:
        said = f"{finding.state}, {finding.action}" if finding.action else str(finding.state)
    elif finding.taken:
        said = f"can be adopted: nanoexec cron adopt {finding.action}"
    elif finding.action:
        said = f"not {finding.action}" if finding.number else f"{finding.kind}, {finding.action}"
    else:
        said = str(finding.kind) if finding.reason else "no action of this node"
    reason = f": {finding.reason}" if finding.reason else ""
    return [f"{_place(finding)}  {said}{reason}", *([f"    {finding.text}"] if finding.text else [])]
