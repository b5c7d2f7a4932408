"""``nanoexec prove``: the chain from the order to the stored result."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Optional

import typer

from nanoexec.cli.options import PLAIN, ROOT, Plain, example, paths

if TYPE_CHECKING:
    from nanoexec.config import Paths
    from nanoexec.model import Run
    from nanoexec.proof import Proof

_WIDTH: Final = 80


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "prove", epilog=example("nanoexec prove 3f9k web01", "nanoexec prove 3f9k    # on web01 itself, as root")
    )(prove)


def prove(
    id_: str = typer.Argument(..., metavar="ID", help="A trigger's id, or the beginning of it."),
    node: Optional[str] = typer.Argument(None, metavar="NODE", help="On the hub: which of its nodes."),
    output: Plain = PLAIN,
    root: Path = ROOT,
) -> None:
    """Show step by step what became of a trigger on a node, by the clocks of both sides, and whether it holds together.

    On the hub with NODE: what the hub has stored, the node's journal as it was reported. On a node, without NODE: what
    its journal says, any run's too.

    Exit status: 0 it is all there, 3 it cannot have happened as it is told, 4 a part is missing.
    """
    shown, proof, remark = _at_the_hub(paths(root), id_, node) if node else _on_the_node(paths(root), id_)
    _print(shown, proof, remark, output)
    code = exit_code(proof)
    if code:
        raise typer.Exit(code)


def exit_code(proof: "Proof") -> int:
    from nanoexec.errors import ExitCode

    if proof.broken:
        return ExitCode.RUN_FAILED
    return ExitCode.NO_ANSWER if proof.missing else ExitCode.OK


def _at_the_hub(where: "Paths", id_: str, node: str) -> "tuple[dict[str, Any], Proof, str]":
    from nanoexec import proof
    from nanoexec.cli import words
    from nanoexec.cli.ask import ask
    from nanoexec.errors import ProtocolError
    from nanoexec.wire import control

    reply = ask(where, control.Prove(id=id_.lower(), node=words.node_name(node)))
    if not isinstance(reply, control.Proof):
        raise ProtocolError("the hub answers with something else than a proof")
    chain = reply.chain
    shown = {"id": chain.trigger.id, "action": chain.trigger.action, "node": chain.delivery.node, "skew": chain.skew}
    return shown, proof.of_chain(chain), _clocks(chain.delivery.node, chain.skew)


def _clocks(node: str, skew: float | None) -> str:
    from nanoexec.duration import format_duration

    if skew is None:
        return f"how far the clock of {node} is off is not known"
    where = "ahead of" if skew > 0 else "behind"
    return f"when last heard, the clock of {node} was {format_duration(abs(skew))} {where} the hub's"


def _on_the_node(where: "Paths", id_: str) -> "tuple[dict[str, Any], Proof, str]":
    from nanoexec import proof
    from nanoexec.runner.journal import Journal

    _demand(where.journal, id_)
    with Journal.open(where.journal) as journal:
        run = _only(journal.beginning(id_.lower()), id_)
        relayed = _relayed(where, journal.id)
    shown = {"id": run.id, "action": run.action, "cause": str(run.cause), "by": run.by}
    return shown, proof.of_run(run, relayed), ""


def _demand(journal: Path, id_: str) -> None:
    """Raise `UsageError` if there is no journal, `StoreError` if this user may not read it, or even see it."""
    import os

    from nanoexec.errors import StoreError, UsageError

    try:
        journal.stat()
        readable = os.access(journal, os.R_OK | os.W_OK)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"there is no journal at {journal}: on the hub, name a node too: nanoexec prove ID NODE"
        ) from None
    except PermissionError:
        readable = False
    if not readable:
        raise StoreError(f"{journal}: only its owner may read it: use sudo nanoexec prove {id_}")


def _only(found: "tuple[Run, ...]", beginning: str) -> "Run":
    from nanoexec.errors import UsageError

    if not beginning or not found:
        raise UsageError(f"no run in this node's journal begins with {beginning!r}")
    if len(found) > 1:
        raise UsageError(
            f"{beginning!r} begins several run ids ({', '.join(run.id for run in found)}, ...): write more"
        )
    return found[0]


def _relayed(where: "Paths", journal: str) -> int | None:
    """How far the hub has this journal, by the agent's cursor."""
    from nanoexec.agent.identity import read_cursor

    cursor = read_cursor(where.agent_state / "cursor")
    return cursor.change if cursor.journal == journal else None


def _print(shown: "dict[str, Any]", proof: "Proof", remark: str, output: Plain) -> None:
    from nanoexec.cli import render

    if output is Plain.JSON:
        render.print_json(shown | render.plain(proof) | {"exit_code": int(exit_code(proof))})
        return
    where = f" on {shown['node']}" if "node" in shown else f", {shown['cause']}, by {shown['by']}"
    lines = [f"{shown['id']}  {shown['action']}{where}", "", *_rows(proof)]
    render.say(*(render.printable(line) for line in lines))
    if remark:
        render.tell(remark)
    for what in proof.missing:
        render.tell(render.printable(f"missing: {what}"))
    for what in proof.broken:
        render.tell(render.printable(f"broken: {what}"))


def _rows(proof: "Proof") -> "Iterator[str]":
    """A line for each step; what is said of it comes below where that line would be too long for a terminal."""
    from textwrap import wrap

    from nanoexec.cli import render

    steps = [(step.clock, render.to_the_millisecond(step.at), step.what) for step in proof.steps]
    head, *lines = render.table([("CLOCK", "TIME", "WHAT"), *steps])
    below = " " * (head.index("WHAT") + 2)
    width = max(map(len, lines), default=0)
    yield head
    for line, step in zip(lines, proof.steps, strict=True):
        beside = f"{line:{width}}  {step.detail}".rstrip()
        if len(beside) <= _WIDTH:
            yield beside
            continue
        yield line
        said = wrap(step.detail, _WIDTH - len(below), break_long_words=False, break_on_hyphens=False)
        yield from (below + part for part in said)
