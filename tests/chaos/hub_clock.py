"""The hub's clock as it really was, whatever anybody believes of it: by this the model judges what has expired.

Whoever knows what it showed at one moment carries that on with a steady clock, and is right until the hub's clock is
set. So what may rightly be believed now lies between the lowest and the highest of all that was true since that moment.
"""

from collections.abc import Callable, Iterator


class HubClock:
    """``time`` is the world's own, in seconds, which nobody can set; at its zero the hub's clock showed ``start``."""

    def __init__(self, time: Callable[[], float], start: float) -> None:
        self._time = time
        self._sets: list[tuple[float, float]] = [(0.0, start)]  # when, and how far ahead of the world's time since then

    def put_forward(self, seconds: float) -> None:
        """Somebody sets it."""
        self._sets.append((self._time(), self._sets[-1][1] + seconds))

    @property
    def set_at(self) -> float:
        """When that was done last, by the world's time."""
        return self._sets[-1][0]

    @property
    def shows(self) -> float:
        return self._time() + self._sets[-1][1]

    def lowest(self, since: float) -> float:
        """What it shows now at least, for somebody who knows what it showed at any moment since then."""
        return self._time() + min(ahead for _, ahead in self._since(since))

    def highest(self, since: float) -> float:
        """What it shows now at most, for the same."""
        return self._time() + max(ahead for _, ahead in self._since(since))

    def shown(self, since: float) -> float:
        """The highest that it has really shown since then."""
        return max(until + ahead for until, ahead in self._since(since))

    def _since(self, since: float) -> Iterator[tuple[float, float]]:
        """Until when it was how far ahead."""
        until = self._time()
        for when, ahead in reversed(self._sets):
            yield until, ahead
            if when <= since:
                return
            until = when
