"""What an agent knows of the hub's time. Pure: each method is given the moment of one's own steady clock, in seconds.

The hub's clock is read from afar. An answer tells what it showed at some moment between the question and the reading of
the answer, so the hub's time is known to lie between two bounds, as far apart as the answer was slow. From there the
steady clock carries both on.

Each answer replaces what was known before. To intersect it with that would be narrower after a slow answer, and wrong:
a clock that was set by less than the answer took contradicts nothing, and clocks that drift (500 ppm are 43 s a day)
leave every bound that is kept. Between two answers, 15 s apart, they drift by less than 10 ms.

A published frame tells only a time that has passed, for it may have waited while this machine slept. It raises the
lower bound. If it is later than the upper bound allows, the hub's clock was set, before the frame or after it: then
nothing is too late to be possible until the hub is asked.
"""

import math
from typing import Final

SET: Final = 1.0  # seconds that a frame is ahead of the latest possible time if the clock was set; less may be drift


class HubTime:
    """Two bounds of the hub's clock, as seconds since the epoch."""

    def __init__(self) -> None:
        self._earliest = -math.inf  # hub time minus steady time, at least
        self._latest = math.inf  # the same, at most

    @property
    def known(self) -> bool:
        """Whether the hub has ever answered."""
        return self._earliest > -math.inf

    def earliest(self, steady: float) -> float:
        """The hub's clock shows at least this; minus infinity before its first answer."""
        return steady + self._earliest

    def latest(self, steady: float) -> float:
        """The hub's clock shows at most this; infinity before its first answer, and when it has been set."""
        return steady + self._latest

    def answered(self, shown: float, asked: float, read: float) -> None:
        """An answer says that the hub's clock showed ``shown`` between ``asked`` and ``read``."""
        self._earliest, self._latest = shown - read, shown - asked

    def published(self, shown: float, read: float) -> None:
        """A frame says that the hub's clock showed ``shown`` at ``read`` or at any time before."""
        offset = shown - read
        if offset > self._latest + SET:
            self._latest = math.inf
        elif self._latest < math.inf:
            self._earliest, self._latest = max(self._earliest, offset), max(self._latest, offset)
