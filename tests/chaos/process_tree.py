"""Processes by their pids: who is below whom, how each is, and signals that make a difference.

Whoever is orphaned below this process may be left to it (prctl(2), PR_SET_CHILD_SUBREAPER), so that nobody gets lost.
"""

import ctypes
import os
import signal
from pathlib import Path
from typing import Final

_SUBREAPER: Final = 36  # PR_SET_CHILD_SUBREAPER, prctl.h
_STOPPED: Final = "T"


def hit(pid: int, number: signal.Signals) -> bool:
    """Send a signal. False if it can make no difference: the process has ended, or stands still already."""
    state = _state(pid)
    if state in ("", "Z") or (number == signal.SIGSTOP and state == _STOPPED):
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def stands_still(pid: int) -> bool:
    """Whether it was stopped, and only a signal lets it go on."""
    return _state(pid) == _STOPPED


def _state(pid: int) -> str:
    """As in proc(5); empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def children(pid: int | None) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def descendants() -> list[int]:
    """Everything below this process."""
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        below = children(waiting.pop())
        found += below
        waiting += below
    return found


def peak(pid: int | None) -> int:
    """The most memory that a process ever had, in MiB; 0 for none."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def reap_orphans(wanted: bool) -> None:  # noqa: FBT001
    ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, int(wanted), 0, 0, 0)
