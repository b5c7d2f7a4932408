"""What a campaign has still to do, and when."""

import heapq
import itertools
import time
from collections.abc import Callable


class Agenda:
    """What is due when; true while there is anything. What undoes something is ``needed``: see `drop`."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, bool, Callable[[], object]]] = []
        self._numbers = itertools.count()

    def later(self, seconds: float, act: Callable[[], object], *, needed: bool = True) -> None:
        heapq.heappush(self._entries, (time.monotonic() + seconds, next(self._numbers), needed, act))

    def do_what_is_due(self) -> None:
        while self._entries and self._entries[0][0] <= time.monotonic():
            heapq.heappop(self._entries)[3]()

    def drop(self) -> None:
        """Whatever is not needed is not done any more."""
        self._entries = [entry for entry in self._entries if entry[2]]
        heapq.heapify(self._entries)

    def __bool__(self) -> bool:
        return bool(self._entries)
