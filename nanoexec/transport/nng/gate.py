"""Who is let in, and as whom: the decision that NNG asks for in its own threads, before a connection can say or hear.

Two rules leave no gap. A connection is entered in the list before ``accept`` is asked, so that a `Gate.disconnect`
between the question and its answer still finds it. And whatever goes wrong here closes the connection.

A peer may have `CONNECTIONS` to a socket; one more closes its oldest. This bounds what one peer can take, and what NNG
leaves behind: on a busy machine it missed the end of about one connection in a thousand that was closed as soon as it
was up (NNG 1.11, over TLS). Nothing but closing it from here ends such a connection, so silence must be judged by
heartbeats and answered by `Gate.disconnect`.
"""

import contextlib
import logging
import struct
import threading
from collections.abc import Callable
from typing import Any, Final

import pynng

from nanoexec.transport import Accept, Notice, Peer

Stranger = Callable[[bytes], None]  # told where from somebody came whose certificate is not accepted

CONNECTIONS: Final = 4  # to one socket with one certificate; a node has one, and one that is not yet known to be dead
_MAPPED: Final = bytes(10) + b"\xff\xff"  # how an IPv6 socket has an IPv4 address

log = logging.getLogger(__name__)


class _Guest:
    def __init__(self, pipe: Any, peer: Peer) -> None:
        self.pipe = pipe
        self.peer = peer
        self.welcome = True
        self.announced = False


class Gate:
    """The live connections of one or more sockets, each with its peer. ``refused`` counts those turned away.

    ``limit`` is how many connections to a socket one peer may have, None any number.
    """

    def __init__(self, identify: Callable[[Any], Peer | None], accept: Accept, limit: int | None) -> None:
        self.refused = 0
        self._limit = limit
        self._identify = identify
        self._accept = accept
        self._guests: dict[int, _Guest] = {}  # by pipe id, which NNG makes unique in the process
        self._of_key: dict[str, dict[int, _Guest]] = {}  # the same by certificate id: all of a fleet come at once
        self._lock = threading.Lock()

    def guard(self, socket: Any, notice: Notice | None = None, stranger: Stranger | None = None) -> None:
        """Stand at a socket that does not listen yet. ``notice`` and ``stranger`` are called in NNG's threads."""
        socket.add_pre_pipe_connect_cb(lambda pipe: self._arrive(pipe, stranger))
        if notice:
            socket.add_post_pipe_connect_cb(lambda pipe: self._announce(pipe, notice))
        socket.add_post_pipe_remove_cb(lambda pipe: self._leave(pipe, notice))

    def peer(self, pipe_id: int) -> Peer | None:
        """Who speaks through this pipe, if the pipe is still there and its peer still welcome."""
        guest = self._guests.get(pipe_id)
        return guest.peer if guest and guest.welcome else None

    def disconnect(self, key: str) -> None:
        """Close every connection of a certificate id; what has arrived from it and is not yet read, is not heard."""
        with self._lock:
            leaving = list(self._of_key.get(key, {}).values())
            for guest in leaving:
                guest.welcome = False
        for guest in leaving:  # outside the lock: NNG may call `_leave` from another thread
            _close(guest.pipe)

    def _arrive(self, pipe: Any, stranger: Stranger | None) -> None:
        try:
            accepted, welcome = self._admit(pipe)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may come in because of it
            log.error("a connection was refused: the question who it is failed: %r", error)  # noqa: TRY400 - one line
            accepted, welcome = True, False  # it may be a good node's
        if welcome:
            return
        with self._lock:
            self._forget(pipe.id)
            self.refused += 1
        if stranger and not accepted and (address := _address(pipe)):
            stranger(address)
        _close(pipe)

    def _admit(self, pipe: Any) -> tuple[bool, bool]:
        """Whether its certificate is accepted, and whether it may come in."""
        peer = self._identify(pipe)
        if peer is None:
            return False, False
        guest = _Guest(pipe, peer)
        with self._lock:
            same = self._of_key.setdefault(peer.key, {})
            older = [g for g in same.values() if g.peer == peer and g.pipe.socket is pipe.socket] if self._limit else []
            self._guests[pipe.id] = same[pipe.id] = guest
        if not self._accept(peer):
            return False, False
        if not guest.welcome:
            return True, False
        if self._limit:
            for surplus in older[: max(0, len(older) + 1 - self._limit)]:
                _close(surplus.pipe)
        return True, True

    def _announce(self, pipe: Any, notice: Notice) -> None:
        with self._lock:
            guest = self._guests.get(pipe.id)
            if guest:
                guest.announced = True
        if guest:
            notice(guest.peer, True)

    def _leave(self, pipe: Any, notice: Notice | None) -> None:
        with self._lock:
            guest = self._forget(pipe.id)
        if guest and guest.announced and notice:
            notice(guest.peer, False)

    def _forget(self, pipe_id: int) -> _Guest | None:
        """With the lock."""
        guest = self._guests.pop(pipe_id, None)
        if guest:
            same = self._of_key[guest.peer.key]
            del same[pipe_id]
            if not same:
                del self._of_key[guest.peer.key]
        return guest


def _address(pipe: Any) -> bytes:
    """Where it came from, as inet_pton(3) packs it; IPv4 as IPv4, and empty for what has no such address."""
    try:
        address = pipe.remote_address
    except pynng.NNGException:  # it has gone by itself
        return b""
    if isinstance(address, pynng.sockaddr.InAddr):
        return struct.pack("=I", address.addr)
    if isinstance(address, pynng.sockaddr.In6Addr):
        return bytes(address.addr).removeprefix(_MAPPED)
    return b""


def _close(pipe: Any) -> None:
    with contextlib.suppress(pynng.NNGException):  # it has gone by itself
        pipe.close()
