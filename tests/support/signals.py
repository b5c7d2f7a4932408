"""Signals that do not end a sleep in poll(2), as the one that comes between Python's last look and the system call."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def heard_elsewhere() -> None:
    """From now on another thread takes this process's signals, and sleeps on: only what Python does at once is done."""
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


@contextmanager
def sent_meanwhile(number: signal.Signals, after: float) -> Iterator[None]:
    """A thread takes this signal ``after`` so many seconds, while the caller does something else."""

    def take() -> None:
        threading.Event().wait(after)
        signal.pthread_kill(threading.get_ident(), number)

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield
    finally:
        thread.join()
