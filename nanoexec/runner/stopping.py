"""How a run is told to stop: a signal to the process that answers for it, heard by the poll(2) that it waits in.

Only that process may say how the run ended, so only it may end it. The wish is in the journal before the signal is
sent: the signal says that there is one, the journal whose it is.

The handler is the runner's, installed once for all its children: `signal.signal` is slow in a process that was just
forked, and each run would pay for it. It does nothing: what counts is that a `Wakeup` gets to know.
"""

import signal
from typing import Final

STOP: Final = signal.SIGUSR1


def hear() -> None:
    """Handle `STOP`, in this process and those that it forks."""
    signal.signal(STOP, lambda _number, _frame: None)
