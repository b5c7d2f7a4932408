"""What can be wrong with a network.

Frames of one connection arrive in the order they were sent unless `Faults.reorder` says otherwise. A partition is
silent: what crosses it is lost, also the news that the other end has hung up, as when a cable is pulled.
"""

from collections.abc import Callable
from random import Random

from nanoexec.transport import Peer

Predicate = Callable[[Peer, bytes], bool]  # whose connection, and the frame


class Faults:
    """The faults that are set now, and the dice."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._lossy: Predicate = lambda _peer, _frame: False
        self._latency = (0.0, 0.0)
        self._disorder = 0.0
        self._partitioned: set[str] = set()

    def drop(self, which: float | Predicate) -> None:
        """Lose frames: each with this probability, or those that a predicate picks. 0 loses none."""
        self._lossy = which if callable(which) else lambda _peer, _frame: self._random.random() < which

    def delay(self, shortest: float, longest: float) -> None:
        """Each frame takes so many seconds at least and at most."""
        self._latency = (shortest, longest)

    def reorder(self, chance: float) -> None:
        """With this probability any frame under way on the connection arrives in the place of the oldest one."""
        self._disorder = chance

    def partition(self, name: str) -> None:
        """Cut the node off. Its connections stay, and carry again after `heal`."""
        self._partitioned.add(name)

    def heal(self, name: str) -> None:
        """End a partition."""
        self._partitioned.discard(name)

    def reaches(self, peer: Peer) -> bool:
        """Whether the node is not cut off."""
        return peer.name not in self._partitioned

    def loses(self, peer: Peer, frame: bytes) -> bool:
        """Whether this frame is lost when it sets out."""
        return not self.reaches(peer) or self._lossy(peer, frame)

    def latency(self) -> float:
        """How many seconds the next frame takes."""
        return self._random.uniform(*self._latency)

    def next_of(self, waiting: int) -> int:
        """Which of so many frames under way arrives next; 0 is the oldest."""
        return self._random.randrange(waiting) if self._random.random() < self._disorder else 0
