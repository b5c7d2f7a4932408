"""``nanoexec status``: how this machine stands, hub or node."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nanoexec.cli.options import PLAIN, ROOT, Plain, example, paths

if TYPE_CHECKING:
    from nanoexec.config import Paths
    from nanoexec.doctor.status import NodeStatus
    from nanoexec.wire.control import Status


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status", epilog=example("nanoexec status", "nanoexec status -o json | jq .node.link.up"))(status)


def status(output: Plain = PLAIN, root: Path = ROOT) -> None:
    """Show how this machine stands: its link to the hub, its runs, its fallbacks; on a hub, its nodes and deliveries.

    It needs no daemon, and says what it cannot know. Whether all is well, and what to do, says nanoexec doctor.
    """
    import time

    from nanoexec.cli import render
    from nanoexec.cli.hub import status_lines
    from nanoexec.doctor import sides
    from nanoexec.doctor.status import node_status

    where = paths(root)
    configured = sides(where)
    hub = _hub(where) if configured.hub else None
    node = node_status(where, time.time()) if configured.node else None
    if output is Plain.JSON:
        render.print_json({"hub": render.plain(hub), "node": render.plain(node)})
        return
    if isinstance(hub, str):
        render.say(f"hub: {hub}")
    elif hub is not None:
        render.say(*status_lines(hub))
    if node is not None:
        render.say(*(render.printable(line) for line in lines(node)))
        render.tell(*(f"not known: {render.printable(what)}" for what in node.unknown))


def _hub(where: "Paths") -> "Status | str":
    """What the hub says of itself, or why it does not."""
    from nanoexec.cli.ask import ask
    from nanoexec.errors import NanoexecError, ProtocolError
    from nanoexec.wire.control import AskStatus, Status

    try:
        reply = ask(where, AskStatus())
        if not isinstance(reply, Status):
            raise ProtocolError(f"{where.control_socket}: it answers with something else")
    except NanoexecError as error:
        return str(error)
    return reply


def lines(node: "NodeStatus") -> Iterator[str]:
    """A node's state for reading."""
    from nanoexec.cli.render import moment

    yield _membership(node)
    yield f"agent   {_agent(node)}"
    yield f"hub     {_heard(node)}"
    yield f"runner  {_word(node.runner, 'answers', 'does not run')}"
    yield f"outbox  {_outbox(node.waiting)}"
    yield from _runs(node)
    for each in node.fallbacks or ():
        due = "at boot" if each.next is None else f"next {moment(each.next)}"
        verb = "would run" if each.runs else "would be skipped"
        yield f"fallback  {each.action}  {each.schedule}  {due}  {verb}: {each.why}"


def _outbox(waiting: int | None) -> str:
    if waiting is None:
        return "not known"
    if not waiting:
        return "empty: the hub has stored every run"
    from nanoexec.cli.render import counted

    return f"{counted(waiting, 'run')} that the hub has not stored, or only in the last few seconds"


def _membership(node: "NodeStatus") -> str:
    name = node.name or "not known by name"
    if node.joined is None:
        hub = f", hub {node.hub}" if node.hub else ""
        return f"node {name}{hub}; whether it has joined is not known"
    return f"node {name}, {f'joined to {node.hub}' if node.joined else 'not joined: nanoexec agent join'}"


def _agent(node: "NodeStatus") -> str:
    from nanoexec.cli.render import moment

    if node.agent is None or node.link is None:
        return "not known, nor its link"
    if not node.agent:
        return "does not run; no link"
    why = f": {node.link.why}" if node.link.why else ""
    return f"runs; link {'up' if node.link.up else 'down'} since {moment(node.link.since)}{why}"


def _heard(node: "NodeStatus") -> str:
    from nanoexec.cli.render import moment
    from nanoexec.duration import format_duration

    if node.silent is not None and node.hub_silent_after is not None:
        after = format_duration(node.hub_silent_after)
        silence = f"silent for more than {after}: hub-silent fallbacks run" if node.silent else "not silent"
        return f"last heard {moment(node.heard)}; {silence}"
    if node.heard is not None:
        return f"last heard {moment(node.heard)}; whether it is silent is not known"
    return "when it was last heard is not known"


def _runs(node: "NodeStatus") -> Iterator[str]:
    from nanoexec.cli.render import moment, outcome_word

    for run in node.open_runs or ():
        state = "waits" if run.started is None else f"runs since {moment(run.started)}"
        yield f"open    {run.id}  {run.action}  {run.cause}, by {run.by}  {state}"
    for run in node.last_runs or ():
        if run.outcome is not None:
            word = outcome_word(run.outcome, changed=run.changed)
            yield f"last    {run.id}  {run.action}  {run.cause}, by {run.by}  {word} {moment(run.ended)}"


def _word(state: "bool | None", yes: str, no: str) -> str:
    return "not known" if state is None else yes if state else no
