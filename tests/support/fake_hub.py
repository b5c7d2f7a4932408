"""A control socket with a script behind it: for what the command line does with whatever a hub may say."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from nanoexec.config import Paths
from nanoexec.model import Delivery, DeliveryState, Outcome, Output, Run, Trigger
from nanoexec.wire import control, stream

ID = "0123456789abcdef"
Script = Callable[[socket.socket, control.Request], None]


@contextlib.contextmanager
def fake_hub(root: Path, script: Script) -> Iterator[Paths]:
    """Give each request to ``script``, which answers on its connection, until the end; a thread for each."""
    paths = Paths(root=root)
    paths.control_socket.parent.mkdir(parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(paths.control_socket))
    listener.listen()
    threads: list[threading.Thread] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=answer, args=(connection,)))
            threads[-1].start()

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError):
            header = connection.recv(stream.HEADER, socket.MSG_WAITALL)
            if header:
                body = connection.recv(stream.length(header), socket.MSG_WAITALL)
                script(connection, control.decode_request(body))

    server = threading.Thread(target=serve)
    server.start()
    try:
        yield paths
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # close alone would leave accept waiting
        server.join()
        listener.close()
        for thread in threads:
            thread.join()


def answering(*replies: control.Reply) -> Script:
    """A script that says these, then waits until the asker hangs up."""

    def script(connection: socket.socket, _request: control.Request) -> None:
        for reply in replies:
            connection.sendall(stream.encode(reply))
        connection.recv(1)

    return script


def make_trigger(action: str = "uptime", nodes: str = "ALL") -> Trigger:
    return Trigger(id=ID, action=action, nodes=nodes, issued=1000.0, expires=4600.0, by="root")


def make_delivery(
    node: str,
    state: DeliveryState = DeliveryState.FINISHED,
    outcome: Outcome | None = None,
    *,
    text: str = "",
    reason: str = "",
    changed: bool | None = None,
    duration: float | None = None,
) -> Delivery:
    """A delivery, with a run where there is an outcome."""
    run = Run(
        id=ID,
        action="uptime",
        cause="trigger",
        by="root",
        requested=1000.0,
        outcome=outcome,
        changed=changed,
        duration=duration,
        output=Output(head=text.encode(), size=len(text.encode())),
    )
    return Delivery(trigger=ID, node=node, state=state, updated=1001.0, reason=reason, run=run if outcome else None)
