"""The hub's side: a PUB socket that nodes listen to and a REP socket that they ask."""

import asyncio
import contextlib
from typing import Any

import pynng

from nanoexec.errors import ProtocolError
from nanoexec.model import Credentials
from nanoexec.transport import Accept, Notice, Peer, Respond
from nanoexec.transport.limits import MAX_PUBLISHED, PUBLISH_QUEUE
from nanoexec.transport.nng import tls
from nanoexec.transport.nng.bar import Bar
from nanoexec.transport.nng.gate import CONNECTIONS, Gate
from nanoexec.transport.nng.listeners import Listeners
from nanoexec.transport.nng.message import SOCKET_LIMIT
from nanoexec.transport.nng.replies import Replies
from nanoexec.transport.presence import Presence


class NngHubTransport:
    """Makes exchanges on two addresses, such as ``tls+tcp://0.0.0.0:4444``; port 0 takes a free one.

    ``ipc://`` and ``inproc://`` know no certificates: whoever connects there is ``anonymous``.
    """

    def __init__(
        self, publish_url: str, report_url: str, credentials: Credentials | None, *, anonymous: Peer | None = None
    ) -> None:
        self._urls = publish_url, report_url
        self._credentials = credentials
        self._anonymous = anonymous

    async def serve(self, *, accept: Accept, respond: Respond, notice: Notice) -> "NngExchange":
        """Listen. Raises `UnavailableError` naming an address that cannot be had, `IdentityError`."""
        config = tls.hub_side(self._credentials) if self._credentials else None
        gate = Gate(self._identify, accept, CONNECTIONS if self._credentials else None)
        exchange = NngExchange(gate, respond, notice)
        try:
            exchange.listen(*self._urls, config)
        except BaseException:
            await exchange.close()
            raise
        return exchange

    def _identify(self, pipe: Any) -> Peer | None:
        return tls.verified_peer(pipe) if self._credentials else self._anonymous


class NngExchange:
    """Serving. ``publish_port`` and ``report_port`` are the ports listened on, 0 where the address has none."""

    def __init__(self, gate: Gate, respond: Respond, notice: Notice) -> None:
        self.publish_port = 0
        self.report_port = 0
        self._loop = asyncio.get_running_loop()
        self._presence = Presence(notice)
        self._closed = False
        self._gate = gate
        self._listeners = Listeners()
        self._bar = Bar(self._listeners.filter)
        self._publisher = pynng.Pub0(send_buffer_size=PUBLISH_QUEUE, recv_max_size=SOCKET_LIMIT)
        self._publisher.tcp_keepalive = True
        self._replies = Replies(self._gate.peer, respond)
        self._gate.guard(self._publisher, self._notice, self._stranger)
        self._gate.guard(self._replies.socket, None, self._stranger)

    @property
    def refused(self) -> int:
        """How many connections were turned away so far: no acceptable certificate name, or not on the roster."""
        return self._gate.refused

    @property
    def reopened(self) -> int:
        """How often an address was opened anew so far, for the dead connections that NNG kept there."""
        return self._listeners.reopened

    @property
    def barred(self) -> int:
        """How often an address was barred from dialling so far, since it was refused again and again."""
        return self._bar.count

    def listen(self, publish_url: str, report_url: str, config: Any) -> None:
        """Open both addresses. Raises `UnavailableError`."""
        self.report_port = self._listeners.open(self._replies.socket, report_url, config)
        self._replies.start()
        self.publish_port = self._listeners.open(self._publisher, publish_url, config)

    async def publish(self, frame: bytes) -> None:
        """See `Exchange`. Raises `ProtocolError` for a frame that would make every node hang up."""
        if len(frame) > MAX_PUBLISHED:
            raise ProtocolError(f"published frame of {len(frame)} bytes: at most {MAX_PUBLISHED} may be sent")
        with contextlib.suppress(pynng.Closed):
            self._publisher.send(frame, block=False)

    def disconnect(self, key: str) -> None:
        self._gate.disconnect(key)

    async def close(self) -> None:
        self._closed = True
        self._bar.close()
        self._listeners.close()
        self._publisher.close()
        await self._replies.close()

    def _notice(self, peer: Peer, up: bool) -> None:  # noqa: FBT001 - the shape of a Notice
        with contextlib.suppress(RuntimeError):  # the loop ended before this connection did
            self._loop.call_soon_threadsafe(self._change, peer, up)

    def _stranger(self, address: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # as above
            self._loop.call_soon_threadsafe(self._bar.refused, address)

    def _change(self, peer: Peer, up: bool) -> None:  # noqa: FBT001 - the shape of a Notice
        if not self._closed:
            self._presence.change(peer, up)
