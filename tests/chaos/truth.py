"""What really happened, kept outside of nanoexec, and the promises as checks of what nanoexec says against it."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self

from nanoexec.errors import StoreError
from nanoexec.model import EXEC, FINAL, TRANSITIONS, UNCONFIRMED, DeliveryState, Outcome, Run
from nanoexec.record import Change, DeliveryCancelled, DeliveryMoved, RunReported, TriggerIssued
from nanoexec.store import Store

TOLERATED: Final = 2.0  # seconds: the agent looks at the clock once a second
DAY: Final = 86400.0
Key = tuple[str, str]  # node, run id


class Disk:
    """What the hub's disk holds: what was ever committed, unless an older copy takes its place."""

    def __init__(self) -> None:
        self.states: dict[Key, DeliveryState] = {}
        self.seen: set[tuple[str, str, DeliveryState]] = set()  # every state that was ever on it
        self.cancels: dict[Key, float] = {}  # deliveries that were taken back, and when
        self.reports: dict[Key, Run] = {}

    def copy(self) -> "Disk":
        """The same at this moment."""
        other = Disk()
        other.states, other.seen = dict(self.states), set(self.seen)
        other.cancels, other.reports = dict(self.cancels), dict(self.reports)
        return other


class Truth:
    """A ledger of starts and ends, of what is on the hub's disk, and of what anybody was told."""

    def __init__(self, length: Callable[[], float], clock: Callable[[], float]) -> None:
        self.starts: Counter[Key] = Counter()
        self.ends: dict[Key, int] = {}
        self.kills: set[Key] = set()
        self.disk = Disk()
        self.expires: dict[str, float] = {}
        self.accepted: set[str] = set()
        self.forgotten: set[str] = set()  # triggers that a restored hub does not know, for its backup was made before
        self.local: set[str] = set()  # runs that no trigger caused
        self.said_to_run: set[Key] = set()
        self.stops: set[Key] = set()  # runs that were told to end because of a cancellation
        self.taken_back: set[Key] = set()  # deliveries that somebody has ever taken back, at whatever hub
        self.latest = 0.0  # the highest the hub's clock has ever shown
        self.hub_jumped = False
        self.busy: Counter[Key] = Counter()  # commands that go on, by node and action
        self.begun: dict[Key, float] = {}
        self.wanted: dict[Key, float] = {}
        self.clock = clock
        self.counts: Counter[str] = Counter()  # for the figures
        self.broken: list[str] = []  # promises, as sentences
        self._length = length

    def _hold(self, promise: object, said: str) -> None:
        """Whoever is in the middle of it must not be stopped by it: a service would take an exception for its own."""
        if not promise:
            self.broken.append(said)

    # On the nodes

    @property
    def states(self) -> dict[Key, DeliveryState]:
        return self.disk.states

    @property
    def reports(self) -> dict[Key, Run]:
        return self.disk.reports

    def started(self, node: str, run: Run, known: Run | None) -> float:
        """A command starts, and this is what the journal knows of it; gives how long it will last."""
        self._hold((node, run.id) not in self.reports, f"{run.id} starts on {node} after it was reported")
        self._hold(known and known.started and not known.outcome, f"{run.id} starts on {node}; the journal has {known}")
        self._hold(run.action == EXEC or not self.busy[node, run.action], f"two of {run.action} at once on {node}")
        self.busy[node, run.action] += 1
        self.begun[node, run.id] = self.clock()
        return self._started(node, run.id)

    def stopped(self, node: str, run: Run) -> None:
        """The command is over, or its supervisor is."""
        self.busy[node, run.action] -= 1

    def _started(self, node: str, run: str) -> float:
        self.starts[node, run] += 1
        self._hold(self.starts[node, run] == 1, f"{run} is started again on {node}")
        return self._length()

    def handed_over(self, node: str, id_: str, hub_time: float) -> None:
        """A runner is given an order. How late is only known while the hub's clock has not been moved."""
        self.wanted.setdefault((node, id_), self.clock())
        late = hub_time - self.expires[id_]
        self._hold(self.hub_jumped or late <= TOLERATED, f"{id_} is handed over {late:.0f} s after it expired")

    def ended(self, node: str, run: str, status: int) -> None:
        self.ends[node, run] = status

    def told_to_stop(self, node: str, run: str) -> None:
        """A command is ended, and would have gone on."""
        self._hold((node, run) in self.taken_back, f"{run} on {node} is stopped, and nobody has taken it back")
        self.stops.add((node, run))

    def killed(self, node: str, run: str) -> None:
        """The process that answers for this run is no more."""
        self.kills.add((node, run))

    # At the hub

    def committed(self, changes: Sequence[Change]) -> None:
        """These changes are on the hub's disk now."""
        for change in changes:
            match change:
                case TriggerIssued():
                    self._issued(change)
                case DeliveryMoved():
                    self._moved(change)
                case DeliveryCancelled():
                    self._cancelled(change)
                case RunReported():
                    self._reported(change)

    def _issued(self, change: TriggerIssued) -> None:
        id_ = change.trigger.id
        self._hold(id_ not in self.expires, f"{id_} is issued twice")
        self.expires[id_] = change.trigger.expires
        for node in change.nodes:
            state = DeliveryState.SENT if node in change.sent else DeliveryState.PENDING
            self.states[node, id_] = state
            self.disk.seen.add((node, id_, state))
        self.counts["deliveries"] += len(change.nodes)

    def _cancelled(self, change: DeliveryCancelled) -> None:
        key = change.node, change.trigger
        self._hold(key in self.states, f"{key} is taken back, and is no delivery")
        self._hold(self.states.get(key) not in FINAL, f"{key} is taken back and was {self.states.get(key)}")
        self._hold(key not in self.disk.cancels, f"{key} is taken back twice")
        self.disk.cancels[key] = change.at
        self.taken_back.add(key)
        self.counts["taken back"] += 1

    def _moved(self, change: DeliveryMoved) -> None:
        key = change.node, change.trigger
        before = self.states[key]
        self._hold(change.state in TRANSITIONS[before], f"{key}: from {before} to {change.state}")
        if change.state is DeliveryState.EXPIRED:
            self._hold(
                self.latest >= self.expires[change.trigger] - 1, f"{key}: expired before its time: {change.reason}"
            )
        if change.state is DeliveryState.RUNNING:
            self.said_to_run.add(key)
        if change.state is DeliveryState.FINISHED:
            self._hold(key in self.reports, f"{key}: finished without a report")
        if change.state is DeliveryState.CANCELLED:
            self._hold(key in self.disk.cancels, f"{key}: cancelled, and nobody has taken it back")
            self._hold(before in UNCONFIRMED, f"{key}: the hub says that it is cancelled; its node has it")
        self.states[key] = change.state
        self.disk.seen.add((*key, change.state))

    def _reported(self, change: RunReported) -> None:
        run, key = change.run, (change.node, change.run.id)
        said = f"{key} is reported {run.outcome}"
        done = change.node, run.shared or run.id
        ended = self.ends.get(done) if done not in self.stops else None
        match run.outcome:
            case Outcome.SUCCEEDED:
                self._hold(ended == 0, said)
            case Outcome.FAILED:
                self._hold(ended not in (None, 0), said)
            case Outcome.TIMED_OUT:
                self._hold(ended == -15, said)
            case Outcome.INTERRUPTED:
                self._hold(key in self.kills, said)
            case Outcome.CANCELLED:
                self._hold(key in self.taken_back, f"{said}, and nobody has taken it back")
                self._hold(self.starts[key] == (run.started is not None), f"{said}, started at {run.started}")
                self._hold(not self.starts[key] or key in self.stops, f"{said}, and was never told to stop")
                self.counts["taken back while it ran" if run.started else "taken back before it started"] += 1
            case Outcome.SKIPPED | Outcome.REFUSED:
                self._hold(not self.starts[key], said)
            case None:
                self._hold(None, said)
        if run.shared:
            self._hold(not self.starts[key], f"{said} as shared, and was started")
            begun = self.begun.get((change.node, run.shared), -1.0)
            self._hold(begun >= self.wanted.get(key, 0.0), f"{said} with a run that began before it was asked for")
        before = self.reports.get(key)
        self._hold(
            before is None or before.outcome is run.outcome, f"{said}, and was {before.outcome if before else ''}"
        )
        self.reports[key] = run

    def told_accepted(self, id_: str) -> None:
        """A command line was told that this trigger is accepted."""
        self._hold(id_ in self.expires, f"{id_} was accepted and is not on disk")
        self.accepted.add(id_)

    def told(self, node: str, id_: str, state: DeliveryState) -> None:
        """A command line was told of a delivery."""
        self._hold((node, id_, state) in self.disk.seen, f"{id_} on {node} was told as {state}, and is not on disk")

    def told_taken_back(self, node: str, id_: str) -> None:
        """A command line was told that this delivery is taken back."""
        self._hold((node, id_) in self.disk.cancels, f"{id_} on {node} was told to be taken back, and is not on disk")

    def restored(self, backup: Disk) -> None:
        """An older copy is the hub's disk now. What was accepted since is not known there any more."""
        forgotten = {id_ for _, id_ in self.states.keys() - backup.states.keys()}
        self.counts["triggers that a restored hub has forgotten"] += len(forgotten)
        self.forgotten |= forgotten
        self.disk = backup.copy()

    def open(self) -> list[Key]:
        """Deliveries that are not over."""
        return [key for key, state in self.states.items() if state not in FINAL]


class WatchedStore(Store):
    """The hub's store, on a disk that may be full."""

    truth: Truth
    full: bool = False

    @classmethod
    def watched(cls, path: Path, truth: Truth) -> Self:
        store = cls.open(path)
        store.truth = truth
        return store

    def commit(self, group: Sequence[Change]) -> None:
        if self.full:
            raise StoreError("hub.db: cannot be written: disk is full")
        super().commit(group)
        self.truth.committed(group)
