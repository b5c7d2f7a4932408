"""What a server listens on, and how it gets rid of the dead connections that NNG keeps there.

A peer that hangs up right behind its last word of the TLS handshake, or soon after, can leave a connection for good.
NNG 1.11 shuts the TCP socket down and does not note that: the exchange of protocol numbers that begins next waits for
ever, since its time limit ends nothing either (``tls_tcp_error`` and ``tls_cancel`` in NNG's ``tls_common.c``). It
costs a descriptor and about 50 KiB. It has no pipe yet, so that nothing reaches it but the end of its listener.

So a listener that has too many of them is closed and opened anew, with all its connections: nodes dial again. Of those
that come or go in that very moment up to three were seen to outlive it, for good; they do not count the next time.
"""

import asyncio
import contextlib
import logging
import os
from typing import Any, Final

import pynng
from pynng import ffi, lib

from nanoexec.errors import UnavailableError
from nanoexec.transport.nng import sockets

EVERY: Final = 5.0  # seconds between two looks
MOST: Final = 2048  # dead connections to a listener: 100 MiB, and as many handshakes as 1000 nodes need to come back
SHARE: Final = 8  # and at most one in so many of the descriptors that this process may have
_AGAIN: Final = 0.5  # seconds until a listener that could not be opened is tried again

log = logging.getLogger(__name__)


class Listeners:
    """The addresses of one server, looked after ``every`` so many seconds on the event loop.

    ``reopened`` counts how often one of them was opened anew.
    """

    def __init__(self, every: float = EVERY) -> None:
        self.reopened = 0
        self._every = every
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._listeners: list[_Listener] = []
        self._program = b""

    def open(self, socket_: Any, url: str, config: Any) -> int:
        """Listen with a TLS configuration, or without if it is None; the port, or 0 for an address without ports.

        Raises `UnavailableError`.
        """
        listener = _Listener(socket_, url, config)
        listener.open()
        if config is not None:  # without TLS there is no handshake to break off
            self._listeners.append(listener)
            self._timer = self._timer or self._loop.call_later(self._every, self._look)
        return listener.port

    def filter(self, program: bytes) -> None:
        """Have what comes to all of them filtered by this program (see `syn_filter`), also once they are opened anew.

        Raises `OSError`.
        """
        self._program = program
        for listener in self._listeners:
            listener.filter(program)

    def close(self) -> None:
        """Look no more: the sockets are about to be closed, and their listeners with them. May be called twice."""
        self._listeners.clear()
        if self._timer:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(self._every, self._look)
        most = min(os.sysconf("SC_OPEN_MAX") // SHARE, MOST)
        dead = sockets.dead_connections(most)
        for listener in self._listeners:
            there = dead[listener.port]
            if listener.is_open and len(there - listener.outlived) > most:
                self.reopened += 1
                log.warning(
                    "%s: %d connections were broken off in the TLS handshake and cost a descriptor each:"
                    " listening anew, whoever was connected dials again",
                    listener.url,
                    len(there),
                )
                listener.close()
                listener.outlived = there
                self._reopen(listener)

    def _reopen(self, listener: "_Listener") -> None:
        if listener not in self._listeners:  # all has been closed meanwhile
            return
        try:
            listener.open()
        except UnavailableError as error:  # NNG gives the descriptors back a moment later
            log.warning("%s; it is tried again", error)
            self._loop.call_later(_AGAIN, self._reopen, listener)
        else:
            with contextlib.suppress(OSError):  # whoever changes the program next hears of it
                listener.filter(self._program)


class _Listener:
    """``outlived`` are the dead connections, by inode, that were there when it was last closed: some may still be."""

    def __init__(self, socket_: Any, url: str, config: Any) -> None:
        self.url = url
        self.port = 0
        self.outlived: set[int] = set()
        self._socket = socket_
        self._config = config
        self._listener: Any = None
        self._descriptors: list[int] = []  # of the sockets that listen, once somebody has asked

    @property
    def is_open(self) -> bool:
        return self._listener is not None

    def open(self) -> None:
        """Listen, the next times on the port of the first. Raises `UnavailableError`."""
        if self._config is not None:
            self._socket.tls_config = self._config
        try:
            self._listener = self._socket.listen(self.url)
        except pynng.AddressInUse:
            raise UnavailableError(f"{self.url}: the address is in use: is another hub running?") from None
        except pynng.NNGException as error:
            raise UnavailableError(f"{self.url}: cannot listen: {error}") from None
        port = ffi.new("int *")
        lib.nng_listener_get_int(self._listener.listener, b"tcp-bound-port", port)
        self.port = int(port[0])
        if self.port:
            self.url = f"{self.url.rpartition(':')[0]}:{self.port}"

    def filter(self, program: bytes) -> None:
        """Have what comes in filtered, if it is open. Raises `OSError`."""
        if not self.is_open or not (program or self._descriptors):
            return
        if not self._descriptors:
            self._descriptors = sockets.listening(self.port)
        if not self._descriptors:
            raise FileNotFoundError(f"{self.url}: no socket is found that listens there")
        for descriptor in self._descriptors:
            sockets.attach(descriptor, program)

    def close(self) -> None:
        listener, self._listener = self._listener, None
        self._descriptors = []
        listener.close()
