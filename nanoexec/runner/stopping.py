"""How a run is told to stop: a signal to the process that answers for it, heard by the poll(2) that it waits in.

Only that process may say how the run ended, so only it may end it. The wish is in the journal before the signal is
sent: the signal says that there is one, the journal whose it is.
"""

import os
import signal
from types import FrameType
from typing import Final, Self

STOP: Final = signal.SIGUSR1


class Stop:
    """Becomes readable once this process has been asked to stop its run. A context manager: `STOP` is heard inside."""

    def __init__(self) -> None:
        self.asked = False
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __enter__(self) -> Self:
        signal.signal(STOP, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(STOP, signal.SIG_IGN)  # one that is on its way must not end the process
        os.close(self._descriptor)

    def fileno(self) -> int:
        """What poll(2) waits for."""
        return self._descriptor

    def _heard(self, _signal: int, _frame: FrameType | None) -> None:
        self.asked = True
        os.eventfd_write(self._descriptor, 1)
