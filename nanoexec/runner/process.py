"""Which process is meant: a pid alone is used again, a pid with its start time and boot is not."""

import os
from pathlib import Path
from typing import Final

from nanoexec.model import Value

_PROC: Final = Path("/proc")
_ENOUGH: Final = 4096  # bytes; longer than either file that is read here
_ZOMBIE: Final = "Z"


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
    """The caller."""
    stat = stat_of(os.getpid())
    return Process(boot=boot_id(), pid=os.getpid(), ticks=stat.ticks if stat else 0)


def stat_of(pid: int) -> Stat | None:
    """The state of a process, None when there is none of that pid."""
    try:
        return parse_stat(_content(f"/proc/{pid}/stat"))
    except OSError:
        return None


def parse_stat(line: bytes) -> Stat:
    """A line of ``/proc/PID/stat``. A program may be named ``a) Z 1 (b``: only the last parenthesis ends the name."""
    fields = line[line.rindex(b")") + 2 :].split()
    return Stat(state=fields[0].decode(), group=int(fields[2]), ticks=int(fields[19]))


def lives(process: Process) -> bool:
    """Whether that very process still runs. A zombie has done all that it will ever do."""
    if process.boot != boot_id():
        return False
    stat = stat_of(process.pid)
    return stat is not None and stat.ticks == process.ticks and stat.state != _ZOMBIE


def group_lives(group: int) -> bool:
    """Whether a process group has a member that still runs."""
    members = (stat_of(int(entry.name)) for entry in _PROC.iterdir() if entry.name.isdigit())
    return any(stat.group == group and stat.state != _ZOMBIE for stat in members if stat)


def _content(file: str) -> bytes:
    """Every run reads these: without a buffered file object, it costs a third."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _ENOUGH)
    finally:
        os.close(descriptor)
