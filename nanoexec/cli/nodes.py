"""``nanoexec nodes``: the roster."""

from pathlib import Path
from typing import Any

import typer

from nanoexec.cli.options import PLAIN, ROOT, Plain, example, paths
from nanoexec.cli.plain import Commands

app = Commands(help="The machines that have joined.", epilog=example("nanoexec nodes list"))


@app.command("list", epilog=example("nanoexec nodes list", "nanoexec nodes list -o json | jq -r '.[].name'"))
def list_nodes(output: Plain = PLAIN, root: Path = ROOT) -> None:
    """Show every node: is it here, since when, how far is its clock off."""
    from nanoexec.cli import render
    from nanoexec.doctor.finding import CLOCK_OFF

    nodes = _roster(root)
    if output is Plain.JSON:
        render.print_json(render.plain(nodes))
        return
    if not nodes:
        render.tell("no node has joined yet: nanoexec hub token, then nanoexec agent join on the machine")
        return
    rows = [("NODE", "STATE", "SEEN", "CLOCK", "VERSION", "ACTIONS")]
    for node in sorted(nodes, key=lambda node: node.name):
        state = "revoked" if node.revoked else "connected" if node.connected else "away"
        names = ",".join(action.name for action in node.actions)
        rows.append((node.name, state, render.moment(node.seen), _clock(node.skew), node.version or "-", names or "-"))
    render.say(*render.table(rows))
    for node in nodes:
        if node.skew is not None and abs(node.skew) > CLOCK_OFF and not node.revoked:
            render.tell(f"warning: the clock of {node.name} is {_clock(node.skew)} off; triggers work, times mislead")


@app.command(epilog=example("nanoexec nodes show web01"))
def show(
    name: str = typer.Argument(..., metavar="NODE", help="Its name."), output: Plain = PLAIN, root: Path = ROOT
) -> None:
    """Show one node: its state, its actions, its last runs."""
    from nanoexec.cli import history, render
    from nanoexec.cli.ask import ask
    from nanoexec.errors import UsageError
    from nanoexec.wire.control import AskHistory, History

    node = next((node for node in _roster(root) if node.name == name.lower()), None)
    if node is None:
        raise UsageError(f"no node {name} has ever joined (`nanoexec nodes list`)")
    if output is Plain.JSON:
        render.print_json(render.plain(node))
        return
    state = f"revoked {render.moment(node.revoked)}" if node.revoked else "connected" if node.connected else "away"
    lines = (
        f"{node.name}: {state}, last heard {render.moment(node.seen)}, joined {render.moment(node.joined)}",
        f"certificate {node.key}, nanoexec {node.version or 'unknown'}, clock {_clock(node.skew)}",
        "actions:",
        *(f"  {action.name:20} {action.summary}" for action in node.actions),
    )
    render.say(*(render.printable(line) for line in lines))
    reply = ask(paths(root), AskHistory(limit=10, node=node.name))
    if isinstance(reply, History) and reply.entries:
        render.say("last runs:", *(f"  {line}" for line in history.lines(reply.entries)))


@app.command(epilog=example("nanoexec nodes revoke web07.example.org"))
def revoke(name: str = typer.Argument(..., metavar="NODE", help="Its name."), root: Path = ROOT) -> None:
    """Shut a node out, at once and for good; to let it in again, have it join with a new token."""
    from nanoexec.cli import render, words
    from nanoexec.cli.ask import ask
    from nanoexec.wire.control import Done, Revoke

    reply = ask(paths(root), Revoke(node=words.node_name(name)))
    render.say(reply.note if isinstance(reply, Done) and reply.note else f"{name.lower()} is revoked")


def _roster(root: Path) -> Any:
    from nanoexec.cli.ask import ask
    from nanoexec.wire.control import ListNodes, NodeList

    reply = ask(paths(root), ListNodes())
    return reply.nodes if isinstance(reply, NodeList) else ()


def _clock(skew: float | None) -> str:
    return "-" if skew is None else f"{skew:+.1f}s"
