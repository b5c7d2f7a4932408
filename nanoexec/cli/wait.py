"""From an accepted trigger to its results: wait, show progress, print, and choose the exit code."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from nanoexec.cli import render
from nanoexec.cli.ask import FROM_DISK, HubConnection
from nanoexec.cli.options import Format
from nanoexec.cli.tally import Tally
from nanoexec.config import Paths
from nanoexec.errors import ExitCode, ProtocolError, UnavailableError
from nanoexec.model import FINAL, Delivery
from nanoexec.target import fold
from nanoexec.wire import control

LOOK_EVERY = 0.5  # seconds between two looks at the clock while nothing comes in


def issue(paths: Paths, request: control.Submit | control.Issue, output: Format, *, wait: bool) -> ExitCode:
    """Send a trigger to the hub and see it through. Raises as `HubConnection`."""
    with HubConnection(paths) as hub:
        try:
            hub.send(request)
            accepted = hub.receive(FROM_DISK)
        except KeyboardInterrupt:
            render.tell("stopped before the hub answered: `nanoexec history` says whether it accepted the trigger")
            return ExitCode.INTERRUPTED
        if accepted is None:
            raise late("history", "whether it accepted the trigger")
        if not isinstance(accepted, control.Accepted):
            raise ProtocolError("the hub did not say whether it accepted the trigger")
        fold(())  # loads what folding needs while the nodes are at work
        tally = Tally(accepted.trigger, accepted.nodes, accepted.away, accepted.unknown)
        if tally.unknown:
            render.tell(f"nanoexec: not on the roster: {fold(tally.unknown)}")
        if not wait:
            return _leave(tally, output)
        try:
            follow(hub, tally, output, tally.waiting)
        except KeyboardInterrupt:
            _interrupted(tally)
            return ExitCode.INTERRUPTED
    _finish(tally, output)
    return tally.exit_code()


def late(command: str, what: str) -> UnavailableError:
    """The hub may do what it was asked for all the same, once it can."""
    return UnavailableError(
        f"no answer from the hub within {FROM_DISK:g} s: `nanoexec doctor` looks, `nanoexec {command}` says {what}"
    )


def _leave(tally: Tally, output: Format) -> ExitCode:
    if output is Format.TEXT:
        render.say(f"trigger {tally.trigger.id} accepted for {render.counted(len(tally.deliveries), 'node')}")
        render.tell(f"nanoexec: `nanoexec show {tally.trigger.id}` shows the results")
    else:
        render.print_json({"trigger": tally.trigger.id, "nodes": list(tally.deliveries)}, indent=None)
    return ExitCode.OK


def follow(hub: HubConnection, tally: Tally, output: Format, waiting: Callable[[float], bool]) -> None:
    """Take in what the hub tells as long as ``waiting`` says so, after so many seconds. Raises as `HubConnection`."""
    began = time.monotonic()
    with _progress(tally, shown=output is Format.TEXT) as advance:
        while waiting(time.monotonic() - began):
            reply = _next(hub, tally.trigger.id)
            if isinstance(reply, control.Progress):
                # Who cancels on some nodes only is told of the others, too.
                meant = tuple(delivery for delivery in reply.deliveries if delivery.node in tally.deliveries)
                tally.update(meant)
                tally.moved(reply.away, reply.back, time.monotonic() - began)
                if output is Format.JSONL:
                    _print_lines(meant)
            advance()


def _next(hub: HubConnection, id_: str) -> control.Reply | None:
    try:
        return hub.receive(LOOK_EVERY)
    except UnavailableError as error:  # what it has accepted stands; to issue it anew would run it twice
        raise UnavailableError(f"{error}; `nanoexec show {id_}` tells what becomes of it") from None


def _print_lines(deliveries: tuple[Delivery, ...]) -> None:
    for delivery in deliveries:
        if delivery.state in FINAL:
            render.print_json(render.plain(delivery), indent=None)


@contextlib.contextmanager
def _progress(tally: Tally, *, shown: bool) -> Iterator[Callable[[], None]]:
    """A bar on standard error while it is a terminal; nothing at all when it is not."""
    if not shown or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(tally.trigger.action, total=len(tally.deliveries) - len(tally.queued()))

        def advance() -> None:
            failed = len(tally.failed()) + len(tally.refused())
            bar.update(
                task,
                completed=len(tally.done()),
                total=len(tally.deliveries) - len(tally.queued()),
                description=f"{tally.trigger.action}{f', {failed} failed' if failed else ''}",
            )

        yield advance


def _finish(tally: Tally, output: Format) -> None:
    if output is Format.JSON:
        render.print_json(
            {
                "trigger": tally.trigger.id,
                "action": tally.trigger.action,
                "expires": tally.trigger.expires,
                "deliveries": render.plain(tuple(tally.deliveries.values())),
                "unknown": list(tally.unknown),
                "exit_code": int(tally.exit_code()),
            }
        )
    elif output is Format.JSONL:
        for delivery in (*tally.running(), *tally.silent(), *tally.queued()):
            render.print_json(render.plain(delivery), indent=None)
    else:
        colour = render.wants_colour(sys.stdout)
        render.say(*render.results(tally.done(), colour=colour))
        for word, deliveries in (
            ("still running, and away", tally.running()),
            ("silent", tally.silent()),
            ("queued", tally.queued()),
        ):
            if deliveries:
                render.say(f"{fold(delivery.node for delivery in deliveries)}  {word}{_until(tally, word)}")
        render.tell(f"{tally.trigger.action} {tally.trigger.id}: {tally.summary()}{_until(tally, 'queued')}")


def _until(tally: Tally, word: str) -> str:
    if word != "queued" or not tally.queued():
        return ""
    return f" until {render.moment(tally.trigger.expires)}"


def _interrupted(tally: Tally) -> None:
    """Nothing is cancelled by looking away; say what goes on and how to see the end of it."""
    for word, deliveries in (
        ("still running on", tally.running()),
        ("not heard of from", tally.silent()),
        ("queued for", tally.queued()),
    ):
        if deliveries:
            render.tell(f"{word} {fold(delivery.node for delivery in deliveries)}")
    id_ = tally.trigger.id
    render.tell(
        f"stopped waiting; the runs go on: `nanoexec show {id_}` looks again, `nanoexec cancel {id_}` stops them"
    )
