"""What processes weigh and hold open over a long time."""

import itertools
import statistics
import time
from collections.abc import Sequence
from typing import Any, Final

from benchmarks.processes import memory_kib
from tests.chaos.watched import descriptors

WARM: Final = 0.4  # the part of the time that is left out: caches fill, buffers grow to their size
PARTS: Final = 10  # into which the rest is divided


def settled(seconds: float) -> float:
    """How many seconds lie between the first and the last part, of which `growth` and `creep` tell."""
    return seconds * (1 - WARM) * (PARTS - 1) / PARTS


def growth(values: Sequence[float]) -> float:
    """From the first part to the last, by medians."""
    first, *_, last = _parts(values)
    return last - first


def creep(values: Sequence[float]) -> float:
    """The same, had each part added what the median one did. A leak creeps. A step does not: a thread that is started
    late, or what is first done when something goes wrong, takes its room once.
    """
    return (PARTS - 1) * statistics.median(after - before for before, after in itertools.pairwise(_parts(values)))


def risen(values: Sequence[int]) -> int:
    """From the least in the first third to the least in the last. What leaks is held all the time; a connection that is
    up in one third of the looks, and in another is not, is no leak.
    """
    third = max(1, len(values) // 3)
    return min(values[-third:]) - min(values[:third])


def _parts(values: Sequence[float]) -> list[float]:
    """The median of each part. At least `PARTS` values are needed."""
    edges = [len(values) * part // PARTS for part in range(PARTS + 1)]
    return [statistics.median(values[begin:end]) for begin, end in itertools.pairwise(edges)]


class Scale:
    """Some processes, looked at again and again."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._began = time.monotonic()
        self._memory: dict[str, list[tuple[float, float]]] = {name: [] for name in pids}
        self._open: dict[str, list[int]] = {name: [] for name in pids}

    def look(self) -> None:
        for name, pid in self._pids.items():
            # What is its own: a share of what is shared (PSS) grows when another process ends.
            own = memory_kib(pid, "Anonymous") / 1024
            self._memory[name].append((time.monotonic() - self._began, own))
            self._open[name].append(descriptors(pid))

    def slope(self, name: str) -> float:
        """MB an hour, by least squares, after the warm-up."""
        return 3600 * statistics.linear_regression(*zip(*_warm(self._memory[name]), strict=True)).slope

    def megabytes(self, name: str) -> list[float]:
        """Its own memory, once it is warm."""
        return [megabytes for _, megabytes in _warm(self._memory[name])]

    def descriptors(self, name: str) -> list[int]:
        """How many it had open, once it is warm."""
        return _warm(self._open[name])

    def line(self, name: str) -> str:
        _, own = self._memory[name][-1]
        pss = memory_kib(self._pids[name]) / 1024
        values = self.megabytes(name)
        slope = f"slope {self.slope(name):+.1f} MB/h, by {growth(values):+.2f} MB, of which crept {creep(values):+.2f}"
        return f"{own:.1f} MB of its own (PSS {pss:.1f}), {slope}; {self._open[name][-1]} descriptors"


def _warm(values: list[Any]) -> list[Any]:
    return values[int(WARM * len(values)) :]
