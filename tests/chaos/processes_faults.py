"""What the processes behind `faulty` say of what has gone wrong for them: so much has really happened."""

from collections import Counter
from collections.abc import Callable
from typing import Final

PAUSES: Final = 5  # times that a supervisor has tried to write how its run ended when only the longest pause is left
_ENDING: Final = "Journal.finish"
_OUTLIVED: Final = {_ENDING, "Journal.note_pid"}  # tried again, or done without


class FaultLog:
    """``lines`` gives those that begin with a word, split and without it."""

    def __init__(self, lines: Callable[[str], list[list[str]]]) -> None:
        self._lines = lines

    def dead(self) -> set[int]:
        """Who died at a write."""
        return {int(pid) for pid, *_ in self._lines("dead")}

    def errors(self) -> list[int]:
        """Who was told that the disk failed, once for each time."""
        return [int(pid) for pid, *_ in self._lines("error")]

    def slowed(self) -> set[str]:
        """Each slow disk that somebody has written to."""
        return {seconds for (seconds,) in self._lines("slow")}

    def persisted(self) -> set[int]:
        """Supervisors that could not say for long how their run ended. None of them is to give up."""
        times = Counter(int(pid) for pid, point, *_ in self._lines("refused") if point == _ENDING)
        return {pid for pid, refused in times.items() if refused >= PAUSES}

    def gone(self) -> set[int]:
        """Who could not answer for its run any more: it died, or failed where nobody tries again."""
        failed = {
            int(pid)
            for what in ("error", "refused")
            for pid, point, *_ in self._lines(what)
            if point.removesuffix(".before").removesuffix(".after") not in _OUTLIVED
        }
        return self.dead() | failed
