"""What the commands of ``nanoexec cron`` share: who may, which line is meant, showing a plan, asking, carrying out."""

import os
import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import typer

from nanoexec import settings
from nanoexec.agent import identity
from nanoexec.cli import render
from nanoexec.config import Paths
from nanoexec.crontab import backups, records
from nanoexec.crontab.adoption import adopted
from nanoexec.crontab.plan import Plan, Refusal, apply, diff
from nanoexec.crontab.scan import crontabs
from nanoexec.errors import ConfigError, ExitCode, RefusedError, UsageError
from nanoexec.fallback import Past
from nanoexec.runner.glance import Glance

PROGRAM: Final = "nanoexec-run"
_MACHINE: Final = Path("/")


def demand_root(where: Paths) -> None:
    """Raise `RefusedError` unless this user may change the crontabs of this machine. A scratch root is anybody's."""
    if where.root == _MACHINE and os.geteuid() != 0:
        raise RefusedError("only root can change the crontabs of this machine: use sudo, with --plan to look first")


def named_lines(where: Paths, lines: Sequence[str], actions: Sequence[str]) -> list[tuple[str, int, str]]:
    """File, number and action for each ``FILE:N``, and the actions that go with them, in order. Raises `UsageError`.

    A file may be given as it is on the machine, or as it is under the root.
    """
    if len(actions) == 1:
        actions = list(actions) * len(lines)
    if len(actions) != len(lines):
        raise UsageError("each --line FILE:N needs the ACTION that takes it over, such as --line /etc/crontab:7 puppet")
    return [(*_place(where, line), action) for line, action in zip(lines, actions, strict=True)]


def _place(where: Paths, text: str) -> tuple[str, int]:
    file, _, number = text.rpartition(":")
    if not file.startswith("/") or not number.isdecimal():
        raise UsageError(f"--line {text}: expected a crontab and the number of a line, such as /etc/crontab:7")
    path = Path(file)
    inside = path.is_relative_to(where.root)
    return str(path if inside else where.root / file.lstrip("/")), int(number)


def demand_choice(actions: Sequence[str], *, everything: bool) -> None:
    """Raise `UsageError` unless exactly one of the two says which lines are meant."""
    if everything and actions:
        raise UsageError("--all means every action: leave out the names, or --all")
    if not everything and not actions:
        raise UsageError("which lines? Name one or more actions, or say --all (`nanoexec cron scan` shows them)")


def find_program(wanted: Path | None) -> str:
    """Where nanoexec-run is: what was asked for, or beside this program, or on the PATH. Raises `ConfigError`.

    Not resolved: a link such as /usr/local/bin/nanoexec-run outlives what it points to.
    """
    if wanted:
        return str(wanted.absolute())
    search = os.pathsep.join((str(Path(sys.argv[0]).absolute().parent), os.environ.get("PATH", os.defpath)))
    found = shutil.which(PROGRAM, path=search) or shutil.which(PROGRAM, path=str(Path(sys.executable).parent))
    if found is None:
        raise ConfigError(f"{PROGRAM} is neither beside this program nor on the PATH: say where with --run FILE")
    return str(outside_usr_alias(Path(found).absolute()))


def outside_usr_alias(program: Path, top: Path = _MACHINE) -> Path:
    """The same program in ``/usr/bin``, where ``/bin`` is only another name of that: crontabs outlive such aliases."""
    real = top / "usr" / program.relative_to(top)
    return real if real.exists() and real.samefile(program) else program


def node_name(where: Paths) -> str:
    """What this node is called: by its configuration, else by the machine. Raises `ConfigError`."""
    return settings.read_agent(where).name or identity.host_name()


def carry_out(where: Paths, plan: Plan, *, done: str, look: bool, yes: bool) -> None:
    """Show what a plan changes, ask, and do it; ``look``: only show."""
    for edit in plan.edits:
        render.say(*diff(edit).splitlines())
    render.tell(*(render.printable(_refused(refusal)) for refusal in plan.refusals))
    render.tell(*(render.printable(note) for note in plan.notes))
    if not plan.edits and not plan.forgotten:
        render.tell("nothing to change")
        return
    what = _what(plan)
    if look:
        render.tell(f"would change {what}; nothing was changed")
        return
    if plan.edits and not yes:
        ask(f"Change {what}?")
    apply(where, plan)
    render.tell(f"{done} {what}")


def holding(where: Paths, *, shadow: bool | None = None) -> set[str]:
    """The actions that have an adopted line, in the shadow or not or either, in a crontab that cron reads.

    Each call reads all crontabs, which on a machine is a process for each user.
    """
    known = (adopted(line) for crontab in crontabs(where) if not crontab.ignored for line in crontab.lines)
    return {one.action for one in known if one and shadow in (None, one.shadow)}


def known(where: Paths) -> set[str]:
    """The actions that have an adopted line, or had one that somebody took away. Raises `ConfigError`."""
    return {record.action for record in records.load(where)} | holding(where)


def past(where: Paths, actions: Collection[str]) -> dict[str, list[Past]]:
    """What the journal has of these actions. Raises `RefusedError` when only another user may look, `StoreError`."""
    journal = where.journal
    if not journal.exists():
        return {}
    if not os.access(journal, os.R_OK):
        raise RefusedError(f"{journal}: only root knows what has run on this node: use sudo")
    glance = Glance(str(journal))
    return {action: glance.starts(action, 0.0) for action in actions}


def tidy(where: Paths, now: float, *, look: bool) -> list[str]:
    """Remove what is old; what it was, in words. ``look``: only what would be. Raises `NanoexecError`."""
    from nanoexec.runner.journal import Journal
    from nanoexec.runner.order import horizon

    before = horizon(settings.read_agent(where), now)
    files = backups.old(where, now) if look else backups.discard_old(where, now)
    runs = 0
    if where.journal.exists():
        with Journal.open(where.journal) as journal:
            runs = journal.prunable(before, now) if look else journal.prune(before, now)
    if not files and not runs:
        return ["nothing to remove"]
    what = f"{render.counted(len(files), 'backup')} of crontabs and {render.counted(runs, 'run')} from the journal"
    return [*map(str, files), f"would remove {what}; nothing was removed" if look else f"removed {what}"]


def ask(question: str) -> None:
    """Go on only when somebody at a terminal says yes. Raises `UsageError` where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise UsageError("standard input is no terminal, so nobody can be asked: add --yes to go on, or --plan to look")
    if not typer.confirm(question, err=True):
        render.tell("nothing was changed")
        raise typer.Exit(ExitCode.UNABLE)


def _refused(refusal: Refusal) -> str:
    where = f"{refusal.file}:{refusal.number}: " if refusal.file else ""
    return f"{where}{refusal.action}: {refusal.reason}"


def _what(plan: Plan) -> str:
    lines = sum(len(edit.lines) for edit in plan.edits)
    files = ", ".join(edit.file for edit in plan.edits)
    if not lines:
        return f"no line; {render.counted(len(plan.forgotten), 'record')} of lines that are gone"
    return f"{render.counted(lines, 'line')} in {files}"
