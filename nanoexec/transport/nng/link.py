"""A node's side: a SUB socket that hears the hub and a REQ socket that asks it."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import pynng

from nanoexec.model import Credentials
from nanoexec.transport import LinkLostError
from nanoexec.transport.limits import RECEIVE_QUEUE
from nanoexec.transport.nng import tls
from nanoexec.transport.nng.line import NEVER, Line
from nanoexec.transport.nng.message import SOCKET_LIMIT

LONGEST_DOUBT: Final = 0.1  # seconds: of a handshake that took longer, most is a busy hub, and a good node has no time


class NngNodeTransport:
    """Dials a hub at two addresses; over TLS the hub must prove ``hub_name``."""

    def __init__(self, publish_url: str, report_url: str, credentials: Credentials | None, hub_name: str) -> None:
        self._urls = publish_url, report_url
        self._credentials = credentials
        self._hub_name = hub_name

    async def dial(self, topics: Sequence[bytes], within: float) -> "NngLink":
        """See `NodeTransport`. Also raises `IdentityError` for credentials that cannot be used.

        NNG does not say why a dial fails; `nanoexec.transport.probe` finds it out.
        """
        config = tls.node_side(self._credentials, self._hub_name) if self._credentials else None
        link = NngLink(*self._urls, topics, config)
        try:
            await link.connect(within)
        except BaseException:
            await link.close()
            raise
        return link


class NngLink:
    """Both lines; the end of one is the end of the other. Raises `LinkLostError`."""

    def __init__(self, publish_url: str, report_url: str, topics: Sequence[bytes], config: Any) -> None:
        self._hears = Line(open_socket(pynng.Sub0, config, topics=topics), publish_url, self._end)
        try:
            self._asks = Line(open_socket(pynng.Req0, config, resend_time=-1), report_url, self._end)
        except BaseException:
            self._hears.close("the other line cannot be dialled")
            raise

    async def connect(self, within: float) -> None:
        """Dial both and wait for both. Raises `LinkLostError`."""
        await connect((self._asks, self._hears), within)

    async def receive(self) -> bytes:
        return await self._hears.receive()

    async def request(self, frame: bytes, within: float) -> bytes:
        return await self._asks.ask(frame, within)

    async def close(self) -> None:
        self._end("the link was closed")

    def _end(self, reason: str) -> None:
        self._hears.close(reason)
        self._asks.close(reason)


def open_socket(kind: Any, config: Any, **options: Any) -> Any:
    """A socket for dialling that gives up after its first try."""
    return kind(
        recv_max_size=SOCKET_LIMIT,
        recv_buffer_size=RECEIVE_QUEUE,
        reconnect_time_min=NEVER,
        reconnect_time_max=NEVER,
        tls_config=config,
        **options,
    )


async def connect(lines: Sequence[Line], within: float) -> None:
    """Dial one after the other, each once the one before is up. Raises `LinkLostError`.

    Whoever is not let in hears so a round trip after that, of which a handshake takes three: who waits that long does
    not begin another handshake in vain.
    """
    now = asyncio.get_running_loop().time
    dialled = ""
    try:
        async with asyncio.timeout(within):
            for line in lines:
                began, dialled = now(), line.url
                line.dial()
                await line.connected()
                if line is not lines[-1]:
                    await asyncio.sleep(min((now() - began) / 2, LONGEST_DOUBT))
                    await line.connected()  # still
    except TimeoutError:
        raise LinkLostError(f"{dialled}: no connection within {within:.3g} s") from None
