"""Which process is meant: a pid alone is used again, a pid with its start time and boot is not.

To look at one takes a descriptor, and for a moment there may be none: that says nothing of the process. So whatever
else keeps a look from being taken is raised as `OSError`, for the caller to look again.
"""

import os
import signal
from pathlib import Path
from typing import Final

from nanoexec.model import Value

_PROC: Final = Path("/proc")
_ENOUGH: Final = 4096  # bytes; longer than either file that is read here
_ZOMBIE: Final = "Z"
_GONE: Final = (FileNotFoundError, ProcessLookupError)  # before the file was opened, or before it was read


class Process(Value, frozen=True):
    """A process of this machine for all time. ``ticks`` is its start, in clock ticks since ``boot``."""

    boot: str
    pid: int
    ticks: int


class Stat(Value, frozen=True):
    """What is needed of ``/proc/PID/stat`` (proc(5), fields 3, 5 and 22)."""

    state: str
    group: int
    ticks: int


def boot_id() -> str:
    """The kernel's random name of this boot (random(4))."""
    return _content("/proc/sys/kernel/random/boot_id").decode().strip()


def this_process() -> Process:
    """The caller. Raises `OSError`."""
    me = os.getpid()
    return Process(boot=boot_id(), pid=me, ticks=parse_stat(_content(f"/proc/{me}/stat")).ticks)


def stat_of(pid: int) -> Stat | None:
    """The state of a process, None when there is none of that pid. Raises `OSError`."""
    try:
        return parse_stat(_content(f"/proc/{pid}/stat"))
    except _GONE:
        return None


def parse_stat(line: bytes) -> Stat:
    """A line of ``/proc/PID/stat``. A program may be named ``a) Z 1 (b``: only the last parenthesis ends the name."""
    fields = line[line.rindex(b")") + 2 :].split()
    return Stat(state=fields[0].decode(), group=int(fields[2]), ticks=int(fields[19]))


def lives(process: Process) -> bool:
    """Whether that very process still runs. A zombie has done all that it will ever do. Raises `OSError`."""
    if process.boot != boot_id():
        return False
    stat = stat_of(process.pid)
    return stat is not None and stat.ticks == process.ticks and stat.state != _ZOMBIE


def send_signal(process: Process, number: signal.Signals, *, only_if_caught: bool = False) -> bool:
    """Signal that very process; False if it has gone, or has no handler and ``only_if_caught`` wants one.

    The descriptor is opened first: what it names cannot become another process. Raises `OSError`.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if not lives(process) or (only_if_caught and not _catches(process.pid, number)):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal (SigCgt of proc(5))."""
    try:
        status = _content(f"/proc/{pid}/status")
    except _GONE:
        return False
    mask = next((line.split()[1] for line in status.splitlines() if line.startswith(b"SigCgt:")), b"0")
    return bool(int(mask, 16) >> (number - 1) & 1)


def group_lives(group: int) -> bool:
    """Whether a process group has a member that still runs. One that cannot be looked at may have: it keeps its grace,
    and that ends.
    """
    try:
        members = (stat_of(int(entry.name)) for entry in _PROC.iterdir() if entry.name.isdigit())
        return any(stat.group == group and stat.state != _ZOMBIE for stat in members if stat)
    except OSError:
        return True


def _content(file: str) -> bytes:
    """Every run reads these: without a buffered file object, it costs a third."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _ENOUGH)
    finally:
        os.close(descriptor)
