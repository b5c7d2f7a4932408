"""A hub and three nodes in one deterministic world: real services, real databases, made-up time, a bad network.

The services run as they are, over `transport/memory` and a loop whose time is virtual. The world adds what a machine
room adds: death at any moment, also between a decision and its commit, full disks, clocks that jump, frames that come
late, twice or never. `check` holds after every step; `heal` ends all faults, and then everything must come to its end.
"""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from contextvars import Context
from functools import cache
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, Final, TypeVar
from unittest.mock import patch

from nanoexec.config import HubConfig
from nanoexec.hub.service import Hub
from nanoexec.model import DeliveryState, Instant, identifier
from nanoexec.record import NodeJoined
from nanoexec.store import Store, snapshot
from nanoexec.transport.memory import MemoryNetwork
from nanoexec.wire import control
from tests.chaos import command_line, ear, hub_records, peace
from tests.chaos.child import kernel
from tests.chaos.happened import Happened
from tests.chaos.hub_clock import HubClock
from tests.chaos.hub_disk import Disk, WatchedStore
from tests.chaos.loop import Process, VirtualLoop
from tests.chaos.node import START, Node
from tests.chaos.truth import Truth
from tests.chaos.wires import ANSWER_WITHIN, HubWire

NAMES: Final = ("web1", "web2", "db1")
CALM: Final = 5  # looks, ten seconds apart
REACHED: Final = 150.0  # seconds in which everybody is connected again, and offered what is theirs
ROWS_EVERY: Final = 10  # checks: to read the whole database takes a while
_LENGTHS: Final = (0.0, 0.03, 2.0, 2.0, 40.0, 5000.0)  # seconds that commands last
_STATUSES: Final = (0, 0, 0, 1)
_T = TypeVar("_T")


def scratch() -> Path:
    """A directory in memory where there is one: fsync is called as ever, and costs nothing."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="nanoexec-chaos-", dir=memory if memory.is_dir() else None))


@cache
def empty_store() -> bytes:
    """A hub's database with the nodes on its roster."""
    root = scratch()
    try:
        store = Store.open(root / "hub.db")
        with closing(store):
            store.commit([NodeJoined(name=name, key=name.ljust(16, "0"), at=START) for name in NAMES])
        return (root / "hub.db").read_bytes()
    finally:
        shutil.rmtree(root)


class World:
    """Everything there is. ``seed`` decides all that is left to chance."""

    def __init__(self, seed: int, figures: Happened) -> None:
        self.random = Random(seed)  # noqa: S311 - a world that can be made again
        self.figures = figures
        self.loop = VirtualLoop(self.random, latency=0.01)
        self.hub_clock = HubClock(self.loop.time, START)
        self.truth = Truth(
            lambda: 0.03 if self.healing else self.random.choice(_LENGTHS), self.loop.time, self.hub_clock
        )
        self.network = MemoryNetwork(Random(seed + 1))  # noqa: S311 - the same
        self.healing = False
        self.submitted = 0
        self.hub: Hub | None = None
        self.hub_wire: HubWire | None = None
        self.hub_process = Process("nobody")
        self._numbers = 0
        self._checks = 0
        self._published: list[bytes] = []
        self._root = scratch()
        self._stack = ExitStack()
        self._stack.callback(shutil.rmtree, self._root)
        self._stack.enter_context(kernel())
        self._stack.enter_context(ear.listening(self.loop.faults))
        chance = SimpleNamespace(token_bytes=self.random.randbytes)
        self._stack.enter_context(patch("nanoexec.hub.service.secrets", chance))
        (self._root / "hub.db").write_bytes(empty_store())
        self.store = WatchedStore.watched(self._root / "hub.db", self)
        self._backup: Disk | None = None
        self._stack.callback(self._close_store)
        offs = (0.0, 3600.0, -7200.0)
        self.nodes = {name: Node(self, name, self._root / name, off) for name, off in zip(NAMES, offs, strict=True)}
        self.start_hub()
        for node in self.nodes.values():
            node.start_runner()
            node.start_agent()
        self.advance(5.0)

    def _close_store(self) -> None:
        self.store.close()

    # Chance and numbers

    def new_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def new_bytes(self) -> bytes:
        return self.random.randbytes(10)

    def new_id(self) -> str:
        return identifier(self.new_bytes())

    def draw_status(self) -> int:
        """How the next command ends."""
        return self.random.choice(_STATUSES)

    # Time

    def now(self) -> Instant:
        """The hub's clocks."""
        return Instant(wall=self.hub_clock.shows, steady=self.loop.time())

    def advance(self, seconds: float) -> None:
        """Let everything happen that is due within so many seconds."""
        self.loop.advance(seconds)

    def wake_later(self, wake: Callable[[int], None], parked: int, seconds: float) -> None:
        """Wake a child that has parked."""
        self.in_nobodys_name(self.loop.call_later, max(0.0, seconds), wake, parked)

    def in_nobodys_name(self, what: Callable[..., _T], *args: Any) -> _T:
        """Do what no process does, and so no death prevents: the network's work, and the kernel's."""
        return Context().run(what, *args)

    # The hub

    def start_hub(self) -> None:
        """Start it, unless it is there."""
        if self.hub is not None:
            return
        self.hub_process = Process("hub")
        self.hub_process.resumed = self.loop.time()
        self.hub_wire = HubWire(self, self.hub_process)
        self.hub = Hub(
            HubConfig(),
            name="hub.example.org",
            store=self.store,
            transport=self.hub_wire,
            pin=b"",
            now=self.now,
        )
        self.loop.create_task(self.hub.start(), context=self.hub_process.context())

    def hub_works_since(self) -> float:
        """When anything last came in the way of this hub's work."""
        return max(self.hub_process.resumed, self.store.failed, self.hub_clock.set_at)

    def kill_hub(self) -> None:
        """SIGKILL: what was decided and is not on disk has never been."""
        self.hub_process.alive = False
        self.hub = None
        if self.hub_wire is not None:
            self.hub_wire.cut()
            self.hub_wire = None

    def submit(self, target: str, action: str, lifetime: float) -> None:
        """A command line asks, and watches what comes of it."""
        if self.hub is None:
            return
        self.submitted += 1
        self.figures.add("triggers")
        wanted = control.Wanted(
            target=target, action=action, lifetime=lifetime, command=("true",) if action == "exec" else ()
        )
        self.ask(control.Submit(wanted=wanted))

    def cancel(self, place: int, nodes: str | None) -> bool:
        """A command line takes back a trigger of the past, perhaps one that is long over or unknown by now."""
        if self.hub is None or not self.truth.expires:
            return False
        id_ = tuple(self.truth.expires)[-1 - place % len(self.truth.expires)]
        self.figures.add("cancellations")
        self.ask(control.Cancel(id=id_, nodes=nodes))
        return True

    def back_up(self) -> None:
        """Copy the hub's database, as `nanoexec hub backup` does, whether or not a hub is running."""
        (self._root / "kept.db").unlink(missing_ok=True)
        snapshot(self._root / "hub.db", self._root / "kept.db")
        self._backup = self.truth.disk.copy()

    def restore(self) -> bool:
        """The hub is gone, and its database, too; another hub begins with the copy that was made last."""
        if self._backup is None:
            return False
        self.kill_hub()
        full = self.store.full
        self.store.close()
        for file in self._root.glob("hub.db*"):
            file.unlink()
        shutil.copy2(self._root / "kept.db", self._root / "hub.db")
        self.truth.restored(self._backup)
        self.store = WatchedStore.watched(self._root / "hub.db", self)
        self.store.forget_tokens()
        self.store.full = full
        self.start_hub()
        return True

    def ask(self, request: control.Request) -> None:
        """A command line asks the hub, if it is there, and hears what it says for as long as both live."""
        if self.hub is not None:
            self.loop.create_task(command_line.ask(self, self.hub, request), context=self.hub_process.context())

    def keep_published(self, frame: bytes) -> None:
        self._published = [*self._published[-60:], frame]

    def publish_again(self, node: str, place: int) -> bool:
        """A frame of the past, perhaps of another epoch, comes to a node once more."""
        if self._published:
            self.nodes[node].wire.hear_again(self._published[place % len(self._published)])
        return bool(self._published)

    # Promises

    def check(self) -> None:
        """What holds at every moment."""
        assert not self.truth.broken, "; ".join(self.truth.broken)
        assert not self.loop.faults, "; ".join(self.loop.faults)
        self._checks += 1
        for node in self.nodes.values():
            late = node.wire.mouth is not None and not node.process.stopped and node.wire.mouth.late()
            assert not late, late
            if node.agent is not None:
                assert not node.agent.counters["messages_denied"], f"the hub does not take what {node.name} says"
                assert not node.agent.counters["frames_refused"], f"{node.name} does not take what the hub says"
        if self.hub is not None:
            ended = [task for task in self.hub._tasks if task.done()]
            assert not ended, f"a loop of the hub has ended: {ended}"
            assert not self.hub._counters["frames_refused"], "the hub cannot read what a node says"
            hub_records.check_memory(self)
            hub_records.check_expiry(self)
        if not self._checks % ROWS_EVERY:
            hub_records.check_disk(self)

    def mend(self) -> None:
        """End all faults, and start whatever is down."""
        self.network.drop(0)
        self.network.delay(0, 0.01)
        self.network.reorder(0)
        self.store.full = False
        if self.hub is not None and self.hub_process.stopped:
            self.loop.resume(self.hub_process)
        self.start_hub()
        for node in self.nodes.values():
            self.network.heal(node.name)
            node.death, node.slow = "", False
            node.resume_runner()
            if node.agent is not None and node.process.stopped:
                self.loop.resume(node.process)
            node.start_runner()
            node.start_agent()

    def heal(self) -> None:
        """Mend it, and let time pass until there is nothing left to do."""
        self.healing = True
        soon = {name: self._believed_by(node) + REACHED for name, node in self.nodes.items()}
        alive = {key for key in self.truth.open() if self.truth.expires[key[1]] > soon[key[0]]}
        alive -= self.truth.called_expired
        self.mend()
        until = self.loop.time() + peace.HEALING
        calm = 0  # looks in a row: a question that is still unanswered breaks a link when its 25 seconds are over
        while self.loop.time() < until and calm < CALM:
            for node in self.nodes.values():
                for child in tuple(node.children):
                    child.command_is_over()
            self.advance(10.0)
            self.check()
            calm = 0 if peace.restless(self) else calm + 1
        peace.check(self)
        needless = [key for key in alive if self.truth.states[key] is DeliveryState.EXPIRED]
        assert not needless, f"{needless} had time enough when all was well again, and were let expire"

    def _believed_by(self, node: Node) -> float:
        """The highest that this node can take for the hub's time without asking: only if it slept does it not ask."""
        known, process = node.wire.since, node.process
        slept = process.stopped or self.loop.time() - process.resumed < ANSWER_WITHIN
        return self.hub_clock.highest(known) if slept and known is not None else self.hub_clock.shows

    def close(self) -> None:
        """Take everything down, and leave nothing."""
        try:
            self.figures.take(self.truth)
            for node in self.nodes.values():
                node.close()
            self.loop.end()
        finally:
            self._stack.close()
