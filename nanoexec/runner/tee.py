"""A command's output, on its way to whoever started it."""

import os
import select
from collections.abc import Callable
from typing import Final

Patience = Callable[[], float]
_AT_ONCE: Final = 4096  # bytes; what a pipe that is ready takes without waiting (PIPE_BUF of pipe(7))


class Tee:
    """Passes output on to a descriptor. A reader who goes away does not end the run.

    One who does not read holds the command up, as a pipe does. ``patience`` is asked before each wait, and gives for
    how many seconds; with 0, the reader gets no more.
    """

    def __init__(self, descriptor: int) -> None:
        self.patience: Patience = lambda: 1.0
        self._descriptor = descriptor
        self._open = True
        self._poller = select.poll()
        self._poller.register(descriptor, select.POLLOUT)

    def __call__(self, chunk: bytes) -> None:
        """The next bytes."""
        rest = memoryview(chunk)
        while self._open and rest:
            if self._poller.poll(0) or self._is_ready():
                try:
                    rest = rest[os.write(self._descriptor, rest[:_AT_ONCE]) :]
                except OSError:
                    self._open = False

    def _is_ready(self) -> bool:
        patience = self.patience()
        self._open = patience > 0
        return self._open and bool(self._poller.poll(patience * 1000))
