"""What the hub's disk holds, as it was committed, and the hub's store, on a disk that may be full."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from nanoexec.errors import StoreError
from nanoexec.model import NODES_WORD, DeliveryState, Run, Value
from nanoexec.record import Change
from nanoexec.store import Store

if TYPE_CHECKING:
    from tests.chaos.world import World

DAY: Final = 86400.0
Key = tuple[str, str]  # node, run id


class Wish(Value, frozen=True):
    """That a delivery be taken back: who wants it, when by the hub's clock, and when by the world's."""

    by: str
    at: float
    since: float


class Disk:
    """What was ever committed, unless an older copy takes its place."""

    def __init__(self) -> None:
        self.states: dict[Key, DeliveryState] = {}
        self.seen: set[tuple[str, str, DeliveryState]] = set()  # every state that was ever on it
        self.wishes: dict[Key, Wish] = {}
        self.reports: dict[Key, Run] = {}

    def copy(self) -> "Disk":
        """The same at this moment."""
        other = Disk()
        other.states, other.seen = dict(self.states), set(self.seen)
        other.wishes, other.reports = dict(self.wishes), dict(self.reports)
        return other

    def unanswered(self) -> list[Key]:
        """Deliveries that were taken back, and of which their nodes have not said what became of them."""
        return [key for key in self.wishes if self.states[key] not in NODES_WORD]


class WatchedStore(Store):
    """The hub's store. ``spoiled`` is the epoch of the hub's memory that is of no use, for its commit has failed."""

    world: "World"
    full: bool = False
    spoiled: str = ""
    failed: float = 0.0  # when that was, by the world's time

    @classmethod
    def watched(cls, path: Path, world: "World") -> Self:
        store = cls.open(path)
        store.world = world
        return store

    def commit(self, group: Sequence[Change]) -> None:
        given, hub = self.world.loop.at_work, self.world.hub
        assert given is not None
        assert hub is not None
        if self.full:
            self.spoiled, self.failed = hub.clerk.core.epoch, self.world.loop.time()
            raise StoreError("hub.db: cannot be written: disk is full")
        super().commit(group)
        self.world.truth.committed(group, given.at)
