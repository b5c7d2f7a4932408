"""How a run is told to stop: a signal to the process that answers for it, heard by the poll(2) that it waits in.

Only that process may say how the run ended, so only it may end it. The wish is in the journal before the signal is
sent: the signal says that there is one, the journal whose it is.

The handler is the runner's, installed once for all its children: `signal.signal` is slow in a process that was just
forked, and each run would pay for it.
"""

import os
import signal
from types import FrameType
from typing import ClassVar, Final, Self

STOP: Final = signal.SIGUSR1


class Stop:
    """Becomes readable once this process has been asked to stop its run.

    A context manager: once `hear` was called, here or in the parent, `STOP` is heard inside and ignored outside.
    """

    _listening: ClassVar["Stop | None"] = None

    @staticmethod
    def hear() -> None:
        """Handle `STOP`, in this process and those that it forks."""
        signal.signal(STOP, Stop._heard)

    def __init__(self) -> None:
        self.asked = False
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __enter__(self) -> Self:
        Stop._listening = self
        return self

    def __exit__(self, *_: object) -> None:
        Stop._listening = None
        os.close(self._descriptor)

    def fileno(self) -> int:
        """What poll(2) waits for."""
        return self._descriptor

    def ask(self) -> None:
        """What the signal does."""
        self.asked = True
        os.eventfd_write(self._descriptor, 1)

    @staticmethod
    def _heard(_signal: int, _frame: FrameType | None) -> None:
        if Stop._listening:
            Stop._listening.ask()
