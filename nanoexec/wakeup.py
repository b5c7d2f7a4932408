"""Signals that are heard by a process that sleeps in poll(2), also the one that comes just before it falls asleep.

Python runs a handler between two of its own instructions, not when the signal comes. One that comes after the last look
and before the system call, or in another thread, does not end the sleep: its handler runs when something else does. But
its number is written as a byte at once (`signal.set_wakeup_fd`), and a pipe is something to wait for.
"""

import os
import signal
from contextlib import suppress
from typing import Final, Self

_MANY: Final = 4096  # bytes: more signals than come between two looks


class Wakeup:
    """Becomes readable once a signal has come that this process handles. A context manager, for the main thread.

    Handlers run as always. Raises `OSError` when there is no descriptor left.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before = -1

    def __enter__(self) -> Self:
        self._before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hear no more: at the end, or in a child that was forked meanwhile, which must not write to its parent's."""
        signal.set_wakeup_fd(self._before)
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        """What poll(2) waits for."""
        return self._reader

    def take(self) -> bytes:
        """The numbers of the signals that have come since the last time. Does not wait."""
        with suppress(BlockingIOError):
            return os.read(self._reader, _MANY)
        return b""
