"""What processes weigh and hold open over a long time."""

import statistics
import time
from typing import Any, Final

from benchmarks.processes import memory_kib
from tests.chaos.watched import descriptors

WARM: Final = 0.4  # the part of the time that is left out: caches fill, buffers grow to their size


def settled(seconds: float) -> float:
    """How many seconds lie between the two moments that `Scale.growth` compares."""
    return seconds * (1 - WARM) * 2 / 3


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

    def growth(self, name: str) -> float:
        """MB from the first third after the warm-up to the last, by medians."""
        return _between([megabytes for _, megabytes in _warm(self._memory[name])])

    def opened(self, name: str) -> float:
        """The same for descriptors."""
        return _between(_warm(self._open[name]))

    def line(self, name: str) -> str:
        _, own = self._memory[name][-1]
        pss = memory_kib(self._pids[name]) / 1024
        slope = f"slope {self.slope(name):+.1f} MB/h, by {self.growth(name):+.2f} MB"
        return f"{own:.1f} MB of its own (PSS {pss:.1f}), {slope}; {self._open[name][-1]} descriptors"


def _warm(values: list[Any]) -> list[Any]:
    return values[int(WARM * len(values)) :]


def _between(values: list[Any]) -> float:
    third = max(1, len(values) // 3)
    return float(statistics.median(values[-third:]) - statistics.median(values[:third]))
