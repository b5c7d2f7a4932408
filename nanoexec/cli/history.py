"""``nanoexec history`` and ``nanoexec show``: what happened."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from nanoexec.cli.options import PLAIN, ROOT, Plain, example, paths

if TYPE_CHECKING:
    from nanoexec.record import HistoryEntry, RunReported, TriggerDetail


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        "history",
        epilog=example("nanoexec history", "nanoexec history --node web01 --action slaughter --since 7d --limit 50"),
    )(history)
    app.command("show", epilog=example("nanoexec show 3f9k"))(show)


def history(
    node: Optional[str] = typer.Option(None, "--node", metavar="NODE", help="Only this node."),
    action: Optional[str] = typer.Option(None, "--action", metavar="ACTION", help="Only this action."),
    since: Optional[str] = typer.Option(None, "--since", metavar="DURATION", help="Only the last so long, such as 2d."),
    limit: int = typer.Option(20, "--limit", min=1, max=10_000, help="At most so many."),
    output: Plain = PLAIN,
    root: Path = ROOT,
) -> None:
    """Show what ran, newest first, whoever caused it: triggers, cron, people at the keyboard."""
    import time

    from nanoexec.cli import render, words
    from nanoexec.cli.ask import ask
    from nanoexec.duration import parse_duration
    from nanoexec.wire.control import AskHistory, History

    request = AskHistory(
        limit=limit,
        node=words.node_name(node) if node else None,
        action=words.action_name(action) if action else None,
        since=time.time() - parse_duration(since) if since else None,
    )
    reply = ask(paths(root), request)
    if not isinstance(reply, History):
        return
    if output is Plain.JSON:
        render.print_json(render.plain(reply.entries))
    elif reply.entries:
        render.say(*lines(reply.entries))
    else:
        render.tell("nothing has happened yet, or nothing that matches")


def show(
    id_: str = typer.Argument(..., metavar="ID", help="A trigger's or run's id, or the beginning of it."),
    output: Plain = PLAIN,
    root: Path = ROOT,
) -> None:
    """Show one trigger with every node's result, or one run."""
    from nanoexec.cli.ask import ask
    from nanoexec.wire.control import Show, Shown

    reply = ask(paths(root), Show(id=id_))
    if isinstance(reply, Shown) and reply.trigger is not None:
        _show_trigger(reply.trigger, output)
    elif isinstance(reply, Shown):
        _show_runs(reply.runs, output)


def lines(entries: "Sequence[HistoryEntry]") -> list[str]:
    """History as a table."""
    from nanoexec.cli import render
    from nanoexec.duration import format_duration
    from nanoexec.model import Outcome

    rows = [("WHEN", "ID", "NODE", "ACTION", "CAUSE", "BY", "RESULT", "TOOK")]
    for entry in entries:
        result = render.outcome_word(entry.outcome, changed=entry.changed) if entry.outcome else str(entry.state)
        if result == Outcome.CANCELLED:
            result = render.printable(entry.reason) or result  # it says by whom
        took = format_duration(entry.duration) if entry.duration is not None else "-"
        rows.append(
            (render.moment(entry.at), entry.id, entry.node, entry.action, str(entry.cause), entry.by, result, took)
        )
    return render.table(rows)


def _show_trigger(detail: "TriggerDetail", output: Plain) -> None:
    import sys

    from nanoexec.cli import render
    from nanoexec.cli.tally import Tally
    from nanoexec.model import FINAL
    from nanoexec.target import fold

    trigger = detail.trigger
    if output is Plain.JSON:
        render.print_json(
            render.plain(trigger) | {"target": detail.target, "deliveries": render.plain(detail.deliveries)}
        )
        return
    words = "".join(f" -a {key}={value}" for key, value in trigger.arguments.items()) + (
        f" -- {' '.join(trigger.command)}" if trigger.command else ""
    )
    render.say(
        render.printable(f"{trigger.id}  {detail.target}:{trigger.action}{words}"),
        f"issued {render.moment(trigger.issued)} by {trigger.by}, expires {render.moment(trigger.expires)}",
        *_cancellations(detail),
        "",
    )
    waiting = [delivery for delivery in detail.deliveries if delivery.state not in FINAL]
    ended = [delivery for delivery in detail.deliveries if delivery.state in FINAL]
    render.say(*render.results(ended, colour=render.wants_colour(sys.stdout)))
    for state in sorted({delivery.state for delivery in waiting}):
        render.say(f"{fold(delivery.node for delivery in waiting if delivery.state == state)}  {state}")
    away = [delivery.node for delivery in detail.deliveries if delivery.state == "pending"]
    tally = Tally(trigger, [delivery.node for delivery in detail.deliveries], (), ())
    tally.update(detail.deliveries)
    tally.away.update(away)
    render.tell(tally.summary())


def _cancellations(detail: "TriggerDetail") -> list[str]:
    """Who took it back, when and where, whatever has become of that."""
    from nanoexec.cli import render
    from nanoexec.target import fold

    nodes: dict[tuple[float, str], list[str]] = {}
    for delivery in detail.deliveries:
        if delivery.cancelled is not None:
            nodes.setdefault((delivery.cancelled, delivery.canceller), []).append(delivery.node)
    everywhere = len(detail.deliveries)
    return [
        f"cancelled {render.moment(at)} by {render.printable(by)}{'' if len(on) == everywhere else f' on {fold(on)}'}"
        for (at, by), on in sorted(nodes.items())
    ]


def _show_runs(reported: "Sequence[RunReported]", output: Plain) -> None:
    from nanoexec.cli import render

    if output is Plain.JSON:
        runs = [render.plain(each.run) | {"node": each.node} for each in reported]
        render.print_json(runs[0] if len(runs) == 1 else runs)
        return
    for each in reported:
        render.say(*_run_lines(each))
    if any(each.run.cause == "trigger" for each in reported):
        render.tell("this hub does not know the trigger: it was restored from a backup that is older")


def _run_lines(reported: "RunReported") -> "Iterator[str]":
    from nanoexec.cli import render
    from nanoexec.duration import format_duration

    run = reported.run
    word = render.outcome_word(run.outcome, changed=run.changed) if run.outcome else "running"
    took = f" in {format_duration(run.duration)}" if run.duration is not None else ""
    shown = (
        f"{run.id}  {run.action} on {reported.node}, {run.cause}, by {run.by}",
        f"started {render.moment(run.started)}, {word}{f': {run.reason}' if run.reason else ''}{took}",
        "",
        *run.output.text().splitlines(),
    )
    return map(render.printable, shown)
