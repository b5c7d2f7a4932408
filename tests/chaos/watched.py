"""What a process has open and uses, looked at all the time, and what connections hold."""

import threading
import time
from pathlib import Path
from typing import Final, Self

from benchmarks.processes import cpu_seconds, memory_kib

EVERY: Final = 0.05  # seconds between two looks at the descriptors
_ESTABLISHED: Final = "01"


def descriptors(pid: int) -> int:
    """How many a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def unsent() -> list[tuple[int, int]]:
    """Of each TCP connection over IPv4 its local port, and how many bytes wait there that nobody has taken: proc(5)."""
    fields = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [
        (int(local.rpartition(":")[2], 16), int(queues.partition(":")[0], 16))
        for _, local, _, state, queues, *_ in fields
        if state == _ESTABLISHED
    ]


class Watched:
    """One process; a context manager. ``first`` is how many descriptors it had open at first, ``peak`` the most that it
    has had since `begin`, and ``spent`` its seconds of CPU since then.
    """

    def __init__(self, pid: int) -> None:
        self.first = descriptors(pid)
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.begin()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def begin(self) -> None:
        self.peak = self.now
        self._began, self._before = time.perf_counter(), cpu_seconds(self._pid)

    @property
    def now(self) -> int:
        """How many descriptors it has open."""
        return descriptors(self._pid)

    @property
    def spent(self) -> float:
        return cpu_seconds(self._pid) - self._before

    @property
    def share(self) -> float:
        """How many processors it has kept busy since `begin`."""
        return self.spent / max(0.001, time.perf_counter() - self._began)

    def _look(self) -> None:
        while not self._over.wait(EVERY):
            self.peak = max(self.peak, self.now)

    def __str__(self) -> str:
        memory = memory_kib(self._pid) / 1024
        return f"{self.peak} descriptors at most, {100 * self.share:.0f} % CPU, {memory:.0f} MB"
