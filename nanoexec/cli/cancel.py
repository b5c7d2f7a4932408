"""``nanoexec cancel``: take a trigger back."""

from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from nanoexec.cli.options import OUTPUT, ROOT, Format, example, paths

if TYPE_CHECKING:
    from nanoexec.cli.tally import Tally
    from nanoexec.config import Paths
    from nanoexec.errors import ExitCode
    from nanoexec.wire.control import Cancel, Cancelling


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "cancel", epilog=example("nanoexec cancel 3f9k", "nanoexec cancel 3f9k --nodes 'web[01-20]' --no-wait")
    )(cancel)


def cancel(
    id_: str = typer.Argument(..., metavar="ID", help="A trigger's id, or the beginning of it."),
    nodes: Optional[str] = typer.Option(None, "--nodes", metavar="TARGET", help="Only on these of its nodes."),
    no_wait: bool = typer.Option(False, "--no-wait", help="Return once the hub has it on disk."),
    output: Format = OUTPUT,
    root: Path = ROOT,
) -> None:
    """Take a trigger back: where it has not started it never will, where it runs it is stopped.

    A run's process group gets SIGTERM, and SIGKILL after the action's kill_after; what has left that group goes on.
    Nodes that are away hear of it when they return.

    Exit status: 0 all were stopped or never start, 3 some had ended by themselves, 4 some have not answered yet, 5 no
    node of it matched; with --no-wait, 0 once the hub has it on disk.
    """
    from nanoexec.wire.control import Cancel

    request = Cancel(id=id_.lower(), nodes=nodes, watch=not no_wait)
    raise typer.Exit(_see_through(paths(root), request, output))


def _see_through(where: "Paths", request: "Cancel", output: Format) -> "ExitCode":
    from nanoexec.cli import render
    from nanoexec.cli.ask import FROM_DISK, HubConnection
    from nanoexec.cli.tally import Tally
    from nanoexec.cli.wait import follow, late
    from nanoexec.errors import ExitCode, ProtocolError
    from nanoexec.model import FINAL
    from nanoexec.target import fold
    from nanoexec.wire.control import Cancelling

    with HubConnection(where) as hub:
        try:
            hub.send(request)
            reply = hub.receive(FROM_DISK)
        except KeyboardInterrupt:
            render.tell(f"stopped before the hub answered: `nanoexec show {request.id}` says whether it is cancelled")
            return ExitCode.INTERRUPTED
        if reply is None:
            raise late(f"show {request.id}", "whether it is cancelled")
        if not isinstance(reply, Cancelling):
            raise ProtocolError("the hub did not say whether it cancelled the trigger")
        tally = Tally(reply.trigger, [delivery.node for delivery in reply.deliveries], (), reply.unknown)
        tally.update(reply.deliveries)
        tally.away.update(reply.away)
        if reply.unknown:
            render.tell(f"nanoexec: no part of trigger {reply.trigger.id}: {fold(reply.unknown)}")
        if not request.watch:
            return _leave(reply, output)
        try:
            follow(hub, tally, output, tally.unanswered)
        except KeyboardInterrupt:
            render.tell(f"stopped waiting; the cancellation stands: `nanoexec show {reply.trigger.id}` looks again")
            return ExitCode.INTERRUPTED
    told = {delivery.node for delivery in tally.done()} - {d.node for d in reply.deliveries if d.state in FINAL}
    _look_again(where, tally)
    _print(tally, set(reply.over) - {delivery.node for delivery in tally.cancelled()}, told, output)
    return exit_code(tally)


def exit_code(tally: "Tally") -> "ExitCode":
    """The worst that can be said: that it ended by itself, then that nobody knows yet."""
    from nanoexec.errors import ExitCode

    cancelled = len(tally.cancelled())
    if len(tally.answered()) > cancelled:
        return ExitCode.RUN_FAILED
    return ExitCode.OK if cancelled == len(tally.deliveries) and not tally.unknown else ExitCode.NO_ANSWER


def _leave(reply: "Cancelling", output: Format) -> "ExitCode":
    from nanoexec.cli import render
    from nanoexec.errors import ExitCode

    if output is Format.TEXT:
        late = f", and over on {len(reply.over)} of them before" if reply.over else ""
        render.say(f"trigger {reply.trigger.id} cancelled for {render.counted(len(reply.deliveries), 'node')}{late}")
        render.tell(f"nanoexec: `nanoexec show {reply.trigger.id}` shows what becomes of it")
    else:
        render.print_json(
            {
                "trigger": reply.trigger.id,
                "action": reply.trigger.action,
                "nodes": [delivery.node for delivery in reply.deliveries],
                "over": list(reply.over),
                "unknown": list(reply.unknown),
            },
            indent=None,
        )
    return ExitCode.OK


def _look_again(where: "Paths", tally: "Tally") -> None:
    """Everything of each delivery: how those ended that were over before anybody watched, and who came first."""
    from nanoexec.cli.ask import ask
    from nanoexec.wire.control import Show, Shown

    shown = ask(where, Show(id=tally.trigger.id))
    if isinstance(shown, Shown) and shown.trigger is not None:
        away = set(tally.away)  # to look is no news of a node
        tally.update(delivery for delivery in shown.trigger.deliveries if delivery.node in tally.deliveries)
        tally.away = away


def _print(tally: "Tally", before: set[str], told: set[str], output: Format) -> None:
    """``before``: nodes for which it was too late; ``told``: those of which a line has been printed already."""
    import sys

    from nanoexec.cli import render
    from nanoexec.model import DeliveryState
    from nanoexec.target import fold

    code = exit_code(tally)
    if output is Format.JSON:
        deliveries = render.plain(tuple(tally.deliveries.values()))
        render.print_json(
            {
                "trigger": tally.trigger.id,
                "action": tally.trigger.action,
                "deliveries": deliveries,
                "unknown": list(tally.unknown),
                "exit_code": int(code),
            }
        )
        return
    if output is Format.JSONL:
        for delivery in tally.deliveries.values():
            if delivery.node not in told:
                render.print_json(render.plain(delivery), indent=None)
        return
    answered = {delivery.node: delivery for delivery in tally.answered()}
    ended = [delivery for node, delivery in answered.items() if node not in before]
    render.say(*render.results(ended, colour=render.wants_colour(sys.stdout)))
    waiting = [delivery for node, delivery in tally.deliveries.items() if node not in answered]
    for state in sorted({delivery.state for delivery in waiting}):
        for away, what in ((False, "has not answered yet"), (True, "away: it hears of it when it returns")):
            if meant := [d.node for d in waiting if d.state == state and (d.node in tally.away) == away]:
                render.say(f"{fold(meant)}  {state}, and {what}")
    refused = {node for node in before if tally.deliveries[node].state is DeliveryState.REFUSED}
    for nodes, what in ((before - refused, "had ended before"), (refused, "had refused it, and never starts it")):
        if nodes:
            render.say(f"{fold(nodes)}  {what}")
    render.tell(f"{tally.trigger.action} {tally.trigger.id}: {tally.summary()}")
