"""The listener for machines that have no certificate yet, and the one question such a machine asks at a time."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pynng

from nanoexec.model import Credentials
from nanoexec.transport import Peer
from nanoexec.transport.nng import tls
from nanoexec.transport.nng.gate import Gate
from nanoexec.transport.nng.line import Line
from nanoexec.transport.nng.link import connect, open_socket
from nanoexec.transport.nng.listeners import Listeners
from nanoexec.transport.nng.replies import Replies

STRANGER: Final = Peer(name="stranger", key="")


class JoinServer:
    """A listening join port; ``port`` is its number."""

    def __init__(self, replies: Replies) -> None:
        self.port = 0
        self._replies = replies
        self._listeners = Listeners()

    def listen(self, url: str, config: Any) -> None:
        """Open the address. Raises `UnavailableError`."""
        self.port = self._listeners.open(self._replies.socket, url, config)
        self._replies.start()

    async def close(self) -> None:
        """Stop listening. May be called twice."""
        self._listeners.close()
        await self._replies.close()


async def serve_join(url: str, credentials: Credentials, respond: Callable[[bytes], Awaitable[bytes]]) -> JoinServer:
    """Answer whoever asks: the hub shows its certificate and sees none.

    Raises `UnavailableError` naming an address that cannot be had, `IdentityError`.
    """

    async def answer(_: Peer, frame: bytes) -> bytes:
        return await respond(frame)

    config = tls.open_side(credentials)
    gate = Gate(lambda _: STRANGER, lambda _: True, limit=None)
    replies = Replies(gate.peer, answer)
    gate.guard(replies.socket)
    server = JoinServer(replies)
    try:
        server.listen(url, config)
    except BaseException:
        await server.close()
        raise
    return server


async def ask_to_join(url: str, frame: bytes, *, ca: str | None, hub_name: str, within: float) -> bytes:
    """One question to a join listener and its answer.

    Without ``ca`` nobody is verified: good for fetching the CA that is then compared with the token's pin, and for
    nothing else. Raises `LinkLostError`, `IdentityError`.
    """
    line = Line(open_socket(pynng.Req0, tls.stranger_side(ca, hub_name), resend_time=-1), url)
    deadline = time.monotonic() + within
    try:
        await connect([line], within)
        return await line.ask(frame, deadline - time.monotonic())
    finally:
        line.close("the question was asked")
