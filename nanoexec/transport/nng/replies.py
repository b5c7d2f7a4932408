"""A listening REP socket whose requests are answered on the event loop, many at once.

The socket is in NNG's raw mode, so that one socket serves any number of requests at once, without a context and an
operation for each.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import pynng
from pynng import lib

from nanoexec.transport import Peer, Respond
from nanoexec.transport.nng import message
from nanoexec.wire.network import MAX_FRAME

_BACKLOG: Final = 4096  # answers on their way from the loop to NNG's threads; a group commit frees many at once
_BATCH: Final = 64  # requests read before the loop turns to others

log = logging.getLogger(__name__)


class Replies:
    """Reads requests and answers them, one at a time for each connection: a REQ socket never asks for more, and it
    bounds what one peer can make the hub do. ``peer`` says who a connection is; without a peer nothing is answered.
    """

    def __init__(self, peer: Callable[[int], Peer | None], respond: Respond) -> None:
        self.socket = pynng.Socket(
            opener=lib.nng_rep0_open_raw,
            recv_max_size=message.SOCKET_LIMIT,
            recv_buffer_size=256,
            send_buffer_size=_BACKLOG,
        )
        self.socket.tcp_keepalive = True  # a node that vanished without a word must not stay in the list for ever
        self._peer = peer
        self._respond = respond
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._descriptor: int | None = None

    def start(self) -> None:
        """Begin to read; call it once the socket listens."""
        self._descriptor = self.socket.recv_fd
        self._loop.add_reader(self._descriptor, self._read)

    async def close(self) -> None:
        """Close the socket and end what is being answered. May be called twice."""
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            self._descriptor = None
        self.socket.close()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()  # one that was cancelled before it began has not removed itself

    def _read(self) -> None:
        for _ in range(_BATCH):
            request = message.receive(self.socket)
            if request is None:
                return
            peer = self._peer(request.pipe)
            if peer and request.pipe not in self._tasks:
                self._tasks[request.pipe] = self._loop.create_task(self._answer(peer, request))

    async def _answer(self, peer: Peer, request: message.Message) -> None:
        try:
            frame = await self._respond(peer, request.body)
        except Exception as error:  # noqa: BLE001 - one bad request must not end the hub
            log.error("%s: no answer to its %d bytes: %r", peer.name, len(request.body), error)  # noqa: TRY400 - one line
            return
        finally:
            # Before the answer leaves: with it the peer may ask again, and must not be found busy then.
            self._tasks.pop(request.pipe, None)
        if len(frame) > MAX_FRAME:
            log.error(
                "%s: no answer, for it has %d bytes and at most %d are accepted", peer.name, len(frame), MAX_FRAME
            )
        elif not message.send(self.socket, request.header, frame):
            log.error("%s: no answer, for %d others wait to be sent", peer.name, _BACKLOG)
