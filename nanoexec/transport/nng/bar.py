"""Bars addresses from dialling, in the kernel: NNG 1.11 lets nobody be refused before the TLS handshake has cost 10 ms.

Lives on the event loop. It is a help and no promise: where the kernel takes no filter, the hub goes on without.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Final

from nanoexec.transport.nng.refusals import BARRED, Refusals
from nanoexec.transport.nng.syn_filter import program

_IPV4: Final = 4  # bytes

log = logging.getLogger(__name__)


class Bar:
    """``put`` has the listening sockets filtered by a program, by none if it is empty; it may raise `OSError`.

    An address is barred for ``seconds``; ``count`` is how often that was done so far.
    """

    def __init__(self, put: Callable[[bytes], None], seconds: float = BARRED) -> None:
        self.count = 0
        self._put = put
        self._seconds = seconds
        self._refusals = Refusals(seconds)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._off = False

    def refused(self, address: bytes) -> None:
        """Somebody at this address was refused for its certificate."""
        if not self._off and self._refusals.refused(address, self._loop.time()) and self._change():
            self.count += 1
            log.warning(
                "%s: refused again and again: few who dial from there are answered for the next %.0f s,"
                " and whoever is connected stays",
                _text(address),
                self._seconds,
            )

    def close(self) -> None:
        """Bar nobody any more: the sockets are about to be closed. May be called twice."""
        self._off = True
        if self._timer:
            self._timer.cancel()

    def _change(self) -> bool:
        """Free those whose time is over, and have the kernel know. Whether it does."""
        freed = self._refusals.freed(self._loop.time())
        barred = self._refusals.barred
        try:
            self._put(program(barred) if barred else b"")
        except OSError as error:
            self.close()
            with contextlib.suppress(OSError):  # one of them may have taken it
                self._put(b"")
            log.warning("nobody can be barred from dialling, however often it is refused: %s", error)
            return False
        for address in freed:
            log.info("%s: whoever dials from there is answered again", _text(address))
        if self._timer:
            self._timer.cancel()
        if (end := self._refusals.next_end) is not None:
            self._timer = self._loop.call_at(end, self._change)
        return True


def _text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == _IPV4 else socket.AF_INET6, address)
