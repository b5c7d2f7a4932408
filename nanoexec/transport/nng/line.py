"""One dialled connection on the event loop: it comes up once, and when it is lost it is over.

NNG would dial again by itself, with a random pause and no back-off; here it is told to wait for days, so that whoever
uses the line decides when to try again. Nor does it say that a dial has failed, so it is asked, at growing intervals.
And in the midst of traffic it misses the end of a connection now and then (NNG 1.11, TLS: about one reset in a
hundred), so the kernel is asked, too.

Whoever hangs up in the middle of a TLS handshake may leave its peer a dead connection (see `listeners`). So a line that
nobody wants any more closes its socket only when the handshake is over, or has had `HANDSHAKE` for it.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any, Final

import pynng

from nanoexec.transport import LOST, LinkLostError
from nanoexec.transport.nng import sockets
from nanoexec.transport.nng.failure import why_not

MOMENT: Final = 0.001  # seconds
FIRST_LOOK: Final = 0.05  # seconds that a dial is given before it is asked whether it has failed; then twice as long
HANDSHAKE: Final = 2.0  # seconds: two hundred times what one takes on a hub that is not busy
LOOK_EVERY: Final = 5.0  # seconds between two looks at what the kernel has of a connection
NEVER: Final = 1 << 30  # milliseconds, twelve days; NNG pauses a random part of it


class Line:
    """A SUB or REQ socket. When its connection is lost, the reason goes to ``ended``, which must close the line.

    Takes the socket over. Raises `LinkLostError` if it cannot be waited for: NNG needs descriptors for that.
    """

    def __init__(self, socket_: Any, url: str, ended: Callable[[str], None] | None = None) -> None:
        self.url = url
        self._socket = socket_
        self._ended = ended or self.close
        self._loop = asyncio.get_running_loop()
        try:
            self._descriptor: int = socket_.recv_fd
        except pynng.NNGException as error:
            socket_.close()
            raise LinkLostError(f"{url}: cannot dial: {error}") from None
        self._reader: asyncio.Future[bytes] | None = None
        self._watched = False
        self._kept: bytes | None = None
        self._lost = ""
        self._dialer: Any = None  # while it is not known how the dial ends
        self._settled = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        socket_.add_post_pipe_connect_cb(lambda pipe: self._soon(self._connected, _local_port(pipe)))
        socket_.add_post_pipe_remove_cb(lambda _: self._soon(self._gone))

    def dial(self) -> None:
        """Begin to connect. Raises `LinkLostError` for what cannot be an address."""
        try:
            self._dialer = self._socket.dial(self.url, block=False)
        except pynng.NNGException as error:
            raise LinkLostError(f"{self.url}: cannot dial: {error}") from None
        self._loop.call_later(FIRST_LOOK, self._look, FIRST_LOOK)

    async def connected(self) -> None:
        """Wait until the line is up. Raises `LinkLostError`, also when the dial has failed."""
        await self._settled.wait()
        self._check()

    async def receive(self) -> bytes:
        """The next message; one caller at a time. Raises `LinkLostError`. A cancelled call loses nothing."""
        self._check()
        kept, self._kept = self._kept, None
        if kept is not None:
            return kept
        if not self._watched:
            self._watched = True
            self._loop.add_reader(self._descriptor, self._read)
        reader: asyncio.Future[bytes] = self._loop.create_future()
        self._reader = reader
        try:
            return await reader
        except asyncio.CancelledError:
            if reader.done() and not reader.cancelled() and not reader.exception():
                self._kept = reader.result()
            raise
        finally:
            if self._reader is reader:
                self._reader = None

    async def ask(self, frame: bytes, within: float) -> bytes:
        """Send a request and wait so many seconds for its answer. Raises `LinkLostError`."""
        self._check()
        self._kept = None  # the answer to a question that was given up
        try:
            async with asyncio.timeout(within):
                await self._send(frame)
                return await self.receive()
        except TimeoutError:
            raise LinkLostError(f"{self.url}: no answer within {within:.3g} s") from None
        except pynng.NNGException as error:
            raise LinkLostError(f"{self.url}: cannot send: {error}") from None

    async def _send(self, frame: bytes) -> None:
        """NNG may say an answer before it has noted that the question has left: then it takes no other for a moment."""
        while True:
            self._check()
            try:
                self._socket.send(frame, block=False)
            except pynng.TryAgain:
                await asyncio.sleep(MOMENT)
            else:
                return

    def close(self, reason: str) -> None:
        """Hang up; whoever waits hears ``reason``, also later. May be called twice."""
        if self._lost:
            return
        self._lost = reason
        self._settled.set()
        self._unwatch()  # the descriptor is NNG's, and its number is free for others once the socket is closed
        if self._timer:
            self._timer.cancel()
        if self._reader and not self._reader.done():
            self._reader.set_exception(LinkLostError(f"{self.url}: {reason}"))
        if self._dialer:
            self._loop.call_later(HANDSHAKE, self._dialled)
        else:
            self._socket.close()

    def _check(self) -> None:
        if self._lost:
            raise LinkLostError(f"{self.url}: {self._lost}")

    def _read(self) -> None:
        """There is a message. If nobody waits, it stays in NNG's queue. Else the watch goes on: to end it and begin it
        anew with each message takes asyncio some forty calls.
        """
        reader = self._reader
        if reader is None or reader.done():
            self._unwatch()
            return
        try:
            reader.set_result(bytes(self._socket.recv(block=False)))
        except pynng.TryAgain:
            return
        except pynng.NNGException as error:
            reader.set_exception(LinkLostError(f"{self.url}: cannot receive: {error}"))

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._loop.remove_reader(self._descriptor)

    def _soon(self, callback: Callable[..., None], *arguments: int) -> None:
        with contextlib.suppress(RuntimeError):  # called in NNG's thread, and the loop may have ended meanwhile
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _look(self, pause: float) -> None:
        """Ask whether the dial has failed, until its end is known."""
        if not self._dialer:
            return
        if fault := why_not(self._dialer):
            self._dialled()
            if not self._lost:
                self._ended(f"no connection: {fault}")
        else:
            self._loop.call_later(2 * pause, self._look, 2 * pause)

    def _connected(self, port: int) -> None:
        self._settled.set()
        self._dialled()
        connection = sockets.connection(port) if port and not self._lost else None
        if connection:
            self._timer = self._loop.call_later(LOOK_EVERY, self._inspect, connection)

    def _inspect(self, connection: sockets.Connection) -> None:
        if connection.broken:
            self._ended(LOST)
        else:
            self._timer = self._loop.call_later(LOOK_EVERY, self._inspect, connection)

    def _gone(self) -> None:
        self._dialled()
        if not self._lost:
            self._ended(LOST)

    def _dialled(self) -> None:
        """How the dial ended is known, or matters no more: now the socket can go, if nobody wants it."""
        self._dialer = None
        if self._lost:
            self._socket.close()


def _local_port(pipe: Any) -> int:
    """Of a TCP connection; 0 for any other, and for one that has gone by itself."""
    with contextlib.suppress(pynng.NNGException):
        address = pipe.local_address
        if isinstance(address, pynng.sockaddr.InAddr | pynng.sockaddr.In6Addr):
            return socket.ntohs(address.port)
    return 0
