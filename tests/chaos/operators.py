"""What an operator asks of a hub, without the cost of a command line for each question."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from nanoexec.config import Paths
from nanoexec.wire import control, stream
from tests.support.fleet import wait_until


def ask(root: Path, request: control.Request, within: float = 60.0) -> control.Reply:
    """The first reply of the hub whose root this is. Raises `OSError`, `TimeoutError`."""
    with contextlib.closing(replies(root, request, within)) as answers:
        return next(answers)


def replies(root: Path, request: control.Request, within: float = 60.0) -> Iterator[control.Reply]:
    """Every reply; each must come within so many seconds."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(within)
        connection.connect(str(Paths(root=root).control_socket))
        connection.sendall(stream.encode(request))
        with connection.makefile("rb") as data:
            while header := data.read(stream.HEADER):
                yield control.decode_reply(data.read(stream.length(header)))
    raise ConnectionResetError("the hub hung up")


def status(root: Path) -> control.Status:
    reply = ask(root, control.AskStatus())
    assert isinstance(reply, control.Status), reply
    return reply


def history(root: Path, question: control.AskHistory | None = None) -> control.History:
    """Unless asked for something else, what ``nanoexec history`` asks for."""
    reply = ask(root, question or control.AskHistory(limit=20))
    assert isinstance(reply, control.History), reply
    return reply


def revoke(root: Path, node: str) -> None:
    reply = ask(root, control.Revoke(node=node))
    assert isinstance(reply, control.Done), reply


def wait_connected(root: Path, count: int, within: float) -> None:
    def here() -> bool:
        with contextlib.suppress(OSError):
            return status(root).connected >= count
        return False

    wait_until(here, f"{count} nodes are connected", within, 0.1)
