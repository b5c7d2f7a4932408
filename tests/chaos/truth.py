"""What really happened, kept outside of nanoexec, and the promises as checks of what nanoexec says against it."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from nanoexec.model import EXEC, FINAL, NODES_WORD, TRANSITIONS, UNCONFIRMED, Delivery, DeliveryState, Outcome, Run
from nanoexec.record import Change, DeliveryCancelled, DeliveryMoved, RunReported, TriggerIssued
from tests.chaos.hub_clock import HubClock
from tests.chaos.hub_disk import DAY, Disk, Key, Wish

DRIFT: Final = 1.0  # seconds that an agent takes a frame to be ahead by before it takes the hub's clock to be set
SLOW: Final = 1.0  # seconds: the disk of a node, between a runner's look at the clock and what it commits
_CONCLUDED: Final = "until it expired"  # ends a reason of the hub's own
_BEGUN: Final = (DeliveryState.ACKNOWLEDGED, DeliveryState.RUNNING)


class Truth:
    """A ledger of starts and ends, of what is on the hub's disk, and of what anybody was told."""

    def __init__(self, length: Callable[[], float], clock: Callable[[], float], hub_clock: HubClock) -> None:
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
        self.called_expired: set[Key] = set()  # by the agent of the node
        self.busy: Counter[Key] = Counter()  # commands that go on, by node and action
        self.begun: dict[Key, float] = {}
        self.wanted: dict[Key, float] = {}
        self.clock = clock
        self.hub_clock = hub_clock
        self.came: Counter[str] = Counter()  # deliveries, by the state that they came into
        self.outcomes: Counter[str] = Counter()
        self.judged: Counter[str] = Counter()  # how often each kind of promise has been put to the test
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
        self._hold((node, run.id) in self.wanted, f"{run.id} starts on {node}, and was never admitted")
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

    def handed_over(self, node: str, id_: str, since: float) -> None:
        """A runner is given an order, by an agent that knows what the hub's clock showed at some moment since then."""
        self._in_time("handed over", node, id_, since, 0.0)

    def admitted(self, node: str, id_: str, since: float) -> None:
        """A journal has an order that was handed over so: from here on it may start at any time."""
        self.wanted.setdefault((node, id_), self.clock())
        self._in_time("admitted", node, id_, since, SLOW)

    def _in_time(self, what: str, node: str, id_: str, since: float, tolerated: float) -> None:
        late = self.hub_clock.lowest(since) - self.expires[id_]
        self._hold(late < tolerated, f"{id_} is {what} on {node} {late:.1f} s after it expired")
        self.judged[what] += 1

    def call_expired(self, node: str, id_: str, since: float) -> None:
        """An agent, which knows as much of the hub's clock, will tell the hub that an order has expired."""
        early = self.expires[id_] - self.hub_clock.highest(since)
        self._hold(early <= DRIFT, f"{id_} is called expired by {node} {early:.1f} s before it expires")
        self.called_expired.add((node, id_))
        self.judged["called expired by a node"] += 1

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

    def committed(self, changes: Sequence[Change], decided: float) -> None:
        """These changes are on the hub's disk now. They were ``decided`` then, by the world's time."""
        for change in changes:
            match change:
                case TriggerIssued():
                    self._issued(change)
                case DeliveryMoved():
                    self._moved(change, self.hub_clock.shown(decided))
                case DeliveryCancelled():
                    self._cancelled(change)
                case RunReported():
                    self._reported(change)
        for change in changes:
            if isinstance(change, DeliveryCancelled):
                self._withdrawn(change, self.hub_clock.shown(decided))

    def _issued(self, change: TriggerIssued) -> None:
        id_ = change.trigger.id
        self._hold(id_ not in self.expires, f"{id_} is issued twice")
        self.expires[id_] = change.trigger.expires
        for node in change.nodes:
            state = DeliveryState.SENT if node in change.sent else DeliveryState.PENDING
            self._comes((node, id_), state)
        self.counts["deliveries"] += len(change.nodes)

    def _cancelled(self, change: DeliveryCancelled) -> None:
        key = change.node, change.trigger
        state = self.states.get(key)
        self._hold(state is not None, f"{key} is taken back, and is no delivery")
        self._hold(state not in NODES_WORD | {DeliveryState.CANCELLED}, f"{key} is taken back and was {state}")
        self._hold(key not in self.disk.wishes or self.given_up(key), f"{key} is taken back twice")
        self.disk.wishes[key] = Wish(by=change.by, at=change.at, since=self.clock())
        self.taken_back.add(key)
        self.counts["taken back"] += 1
        self.judged[f"taken back, {state}"] += 1

    def _withdrawn(self, change: DeliveryCancelled, hub_time: float) -> None:
        """What was never sent is cancelled at once; what has just expired, a moment later."""
        pending = self.states[change.node, change.trigger] is DeliveryState.PENDING
        said = f"{change.trigger} is taken back from {change.node}, was never sent there, and stays pending"
        self._hold(not pending or self.expires[change.trigger] <= hub_time, said)

    def given_up(self, key: Key) -> bool:
        """Whether a node that was asked to take a delivery back, and has not answered, need not be asked any more."""
        wish = self.disk.wishes[key]
        return self.hub_clock.shown(wish.since) >= max(self.expires[key[1]], wish.at) + DAY

    def _moved(self, change: DeliveryMoved, hub_time: float) -> None:
        key = change.node, change.trigger
        before = self.states[key]
        self._hold(change.state in TRANSITIONS[before], f"{key}: from {before} to {change.state}")
        match change.state:
            case DeliveryState.EXPIRED:
                self._expired(change, before, hub_time)
            case DeliveryState.LOST:
                early = self.expires[change.trigger] + DAY - hub_time
                self._hold(early <= 0, f"{key}: lost {early:.1f} s before its time: {change.reason}")
                self._hold(before in _BEGUN, f"{key}: lost, and was {before}: {change.reason}")
            case DeliveryState.RUNNING:
                self.said_to_run.add(key)
            case DeliveryState.FINISHED:
                self._hold(key in self.reports, f"{key}: finished without a report")
            case DeliveryState.CANCELLED:
                self._hold(key in self.disk.wishes, f"{key}: cancelled, and nobody has taken it back")
                self._hold(before is DeliveryState.PENDING, f"{key}: the hub calls it cancelled, and it was {before}")
        self._comes(key, change.state)

    def _comes(self, key: Key, state: DeliveryState) -> None:
        self.states[key] = state
        self.disk.seen.add((*key, state))
        self.came[state] += 1

    def _expired(self, change: DeliveryMoved, before: DeliveryState, hub_time: float) -> None:
        """By the reason that is given, the hub has concluded that, or an agent has said so."""
        key = change.node, change.trigger
        if not change.reason.endswith(_CONCLUDED):
            self._hold(key in self.called_expired, f"{key}: has expired, and nobody has said so: {change.reason}")
            return
        early = self.expires[change.trigger] - hub_time
        self._hold(early <= 0, f"{key}: expired {early:.1f} s before its time: {change.reason}")
        wish = self.disk.wishes.get(key)
        if wish is not None:
            self._hold(before is DeliveryState.SENT, f"{key}: was taken back, {before}, and has expired")
            said = f"cancelled by {wish.by}, and the node did not answer until it expired"
            self._hold(change.reason == said, f"{key}: was taken back, and has expired: {change.reason}")
            self.judged["expired, taken back"] += 1
        self.judged["expired at the hub"] += 1

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
        if before is None and run.outcome is not None:
            self.outcomes[run.outcome] += 1

    def told_accepted(self, id_: str) -> None:
        """A command line was told that this trigger is accepted."""
        self._hold(id_ in self.expires, f"{id_} was accepted and is not on disk")
        self.accepted.add(id_)

    def told(self, delivery: Delivery) -> None:
        """A command line was told of a delivery."""
        node, id_, state, run = delivery.node, delivery.trigger, delivery.state, delivery.run
        self._hold((node, id_, state) in self.disk.seen, f"{id_} on {node} was told as {state}, and is not on disk")
        if run is not None:
            self._hold(self.reports.get((node, id_)) == run, f"{id_} on {node} was told as {run}, and is not on disk")

    def told_taken_back(self, delivery: Delivery, *, over: bool) -> None:
        """A command line was told that this delivery is taken back, or that it is ``over``, as its node has said."""
        key = delivery.node, delivery.trigger
        if over:
            self._hold(self.states.get(key) in NODES_WORD, f"{key} was told to be over, and is {delivery.state}")
        else:
            self._hold(key in self.disk.wishes, f"{key} was told to be taken back, and is not on disk")

    def restored(self, backup: Disk) -> None:
        """An older copy is the hub's disk now. What was accepted since is not known there any more."""
        forgotten = {id_ for _, id_ in self.states.keys() - backup.states.keys()}
        self.counts["triggers that a restored hub has forgotten"] += len(forgotten)
        self.forgotten |= forgotten
        self.disk = backup.copy()

    def unconfirmed(self) -> list[Key]:
        """Deliveries that no node has confirmed, and that are not over."""
        return [key for key, state in self.states.items() if state in UNCONFIRMED]

    def open(self) -> list[Key]:
        """Deliveries that are not over."""
        return [key for key, state in self.states.items() if state not in FINAL]
