"""One run of an action at a time, whoever asks: a trigger, cron or a person at the keyboard."""

import fcntl
import os
import signal
from pathlib import Path
from types import FrameType
from typing import Self

from nanoexec.errors import StoreError

_AGAIN = 1.0  # seconds
_SHORTEST = 0.001  # an interval timer of zero would never ring


class _OutOfTimeError(Exception):
    """The wait is over."""


class ActionLock:
    """A flock(2) on a file of root's own. The kernel lets go of it when its process ends, however it ends.

    The descriptor is closed on exec: a daemon that the command leaves behind does not hold the action for ever.
    """

    def __init__(self, directory: Path, action: str) -> None:
        self._file = f"{directory}/{action}.lock"
        self._descriptor: int | None = None
        self._waiting = False

    def __enter__(self) -> Self:
        """Open the file. Raises `StoreError`."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            try:
                self._descriptor = os.open(self._file, flags, 0o600)
            except FileNotFoundError:
                Path(self._file).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._descriptor = os.open(self._file, flags, 0o600)
        except OSError as error:
            raise StoreError(f"{self._file}: cannot open the action's lock: {error.strerror}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def try_acquire(self) -> bool:
        """Take the lock if it is free."""
        try:
            fcntl.flock(self._open(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def acquire(self, within: float) -> bool:
        """Wait for the lock at most ``within`` seconds, asleep in the kernel; those who wait get it in order.

        The alarm repeats, so that one that rings between a look at the clock and the system call is not the only one.
        """
        before = signal.signal(signal.SIGALRM, self._ring)
        try:
            self._waiting = True
            signal.setitimer(signal.ITIMER_REAL, max(within, _SHORTEST), _AGAIN)
            fcntl.flock(self._open(), fcntl.LOCK_EX)
            self._waiting = False
        except _OutOfTimeError:
            return False
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        return True

    def release(self) -> None:
        """Let go. May be called twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            raise StoreError(f"{self._file}: the action's lock is not open")
        return self._descriptor

    def _ring(self, _signal: int, _frame: FrameType | None) -> None:
        if self._waiting:  # once, and never after the system call has returned
            self._waiting = False
            raise _OutOfTimeError
