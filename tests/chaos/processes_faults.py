"""What the processes behind `faulty` say of what has gone wrong for them: so much has really happened."""

from collections import Counter
from collections.abc import Callable
from typing import Final

GIVES_UP: Final = 5  # times that a supervisor tries to write how its run ended
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

    def gave_up(self) -> set[int]:
        """Supervisors that could not say how their run ended for as long as they try to."""
        times = Counter(int(pid) for pid, point, *_ in self._lines("refused") if point == _ENDING)
        return {pid for pid, refused in times.items() if refused >= GIVES_UP}

    def gone(self) -> set[int]:
        """Who could not answer for its run any more: it died, gave up, or failed where nobody tries again."""
        failed = {
            int(pid)
            for what in ("error", "refused")
            for pid, point, *_ in self._lines(what)
            if point.removesuffix(".before").removesuffix(".after") not in _OUTLIVED
        }
        return self.dead() | self.gave_up() | failed
