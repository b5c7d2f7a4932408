"""A command's output, on its way to whoever started it."""

import os
import select
import stat
import time
from collections.abc import Callable
from functools import partial
from typing import Final

Wait = Callable[[int], bool]
Ways = tuple[Callable[[memoryview], int], Callable[[], object]]
_AT_ONCE: Final = 4096  # bytes; what a pipe that is ready takes without waiting (PIPE_BUF of pipe(7))
_BREATH: Final = 0.001  # seconds
_MASTER: Final = os.makedev(5, 2)  # /dev/ptmx: each opening of it is a new terminal


class Tee:
    """Passes output on to a descriptor. A reader who goes away does not end the run.

    One who does not read holds the command up, as a pipe does. ``wait`` is called with the descriptor when there is no
    room, and returns when there may be some; False says that nobody waits any longer, and the reader gets no more.

    What poll(2) calls ready may yet block: a terminal has room for a few bytes, another writer is quicker. So a pipe or
    a terminal is opened anew, not to block: its flags belong to all who share the descriptor. Where that may not be (no
    /proc, the pipe of another user) it is written to as it is, and such a reader can hold us up.
    """

    def __init__(self, descriptor: int, wait: Wait) -> None:
        self._descriptor = descriptor
        self._wait = wait
        self._open = True
        self._poller = select.poll()
        self._poller.register(descriptor, select.POLLOUT)
        self._write, self._close = _ways(descriptor)

    def __call__(self, chunk: bytes) -> None:
        """The next bytes."""
        rest = memoryview(chunk)
        while self._open and rest:
            if not self._poller.poll(0):
                self._open = self._wait(self._descriptor)
                continue
            try:
                rest = rest[self._write(rest[:_AT_ONCE]) :]
            except BlockingIOError:  # another was quicker, or there is room for one byte and a newline takes two
                time.sleep(_BREATH)
                self._open = self._wait(self._descriptor)
            except OSError:
                self._open = False

    def close(self) -> None:
        """Let go of what was opened here. The descriptor itself is the caller's."""
        self._open = False
        self._close()


def _ways(descriptor: int) -> Ways:
    """How to write to it, if possible without ever waiting, and what to do in the end."""
    try:
        status = os.fstat(descriptor)
        if stat.S_ISSOCK(status.st_mode):
            return _message_by_message(descriptor)
        if stat.S_ISFIFO(status.st_mode) or (os.isatty(descriptor) and status.st_rdev != _MASTER):
            opened = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            return partial(os.write, opened), partial(os.close, opened)
    except (OSError, ImportError):  # an import fails where no descriptor is left
        pass
    return partial(os.write, descriptor), lambda: None


def _message_by_message(descriptor: int) -> Ways:
    """A socket cannot be opened anew; each message can say that it will not wait."""
    import socket  # noqa: PLC0415 - 3 ms that only they need whose output goes to a socket, as under systemd

    connection = socket.socket(fileno=descriptor)
    return lambda piece: connection.send(piece, socket.MSG_DONTWAIT), connection.detach
