"""A hub and its nodes without a transport: frames and questions lie in lists until a test lets them through.

Both cores are the real ones and speak in encoded frames. The store is what `record` says of each change, and the runner
keeps the journal's contract: an id that it knows is never started again.
"""

import contextlib
import copy
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from nanoexec.agent.core import AgentCore
from nanoexec.errors import NoTargetError
from nanoexec.hub.core import Decision, HubCore
from nanoexec.hub.ledger import Ledger
from nanoexec.hub.roster import Roster
from nanoexec.model import FINAL, Cause, Cursor, DeliveryState, Instant, Node, Outcome, Run, identifier
from nanoexec.record import (
    Change,
    DeliveryCancelled,
    DeliveryMoved,
    NodeHeard,
    RunReported,
    StoredTrigger,
    TriggerIssued,
)
from nanoexec.wire import network, runner
from nanoexec.wire.control import Wanted

START: Final = 1_000_000.0


class Records:
    """What is on disk at the hub."""

    def __init__(self) -> None:
        self.triggers: dict[str, StoredTrigger] = {}
        self.runs: dict[tuple[str, str], Run] = {}
        self.finished: Counter[tuple[str, str]] = Counter()
        self.relayed: dict[str, Cursor] = {}

    def commit(self, changes: Sequence[Change]) -> None:
        for change in changes:
            match change:
                case TriggerIssued(trigger=trigger, nodes=nodes):
                    states = dict.fromkeys(nodes, DeliveryState.PENDING)
                    self.triggers[trigger.id] = StoredTrigger(trigger, change.order, change.target, states)
                case DeliveryCancelled(trigger=id_, node=node, by=by):
                    self.triggers[id_].cancels.setdefault(node, by)
                case DeliveryMoved(trigger=id_, node=node, state=state):
                    self.triggers[id_].deliveries[node] = state
                    self.finished[id_, node] += state is DeliveryState.FINISHED
                case RunReported(node=node, run=run):
                    known = self.runs.get((node, run.id))
                    if known is None or known.change < run.change:
                        self.runs[node, run.id] = run
                case NodeHeard(name=name, relayed=relayed):
                    self.relayed[name] = relayed


class FakeRunner:
    """A journal, and how often each id was started."""

    def __init__(self) -> None:
        self.journal: dict[str, Run] = {}
        self.starts: Counter[str] = Counter()
        self._change = 0

    def start(self, id_: str, cause: Cause = Cause.TRIGGER) -> Run:
        if id_ not in self.journal:
            self.starts[id_] += 1
            self._write(Run(id_, "uptime", cause, "root", START, started=START))
        return self.journal[id_]

    def end(self, id_: str) -> Run:
        self._write(msgspec.structs.replace(self.journal[id_], ended=START + 1, outcome=Outcome.SUCCEEDED, status=0))
        return self.journal[id_]

    def cancel(self, wish: runner.Cancel) -> Run:
        """Never to be started, or stopped."""
        known = self.journal.get(wish.trigger)
        if known is None:
            known = Run(wish.trigger, wish.action, Cause.TRIGGER, wish.issuer, START)
        if known.outcome is None:
            self._write(msgspec.structs.replace(known, ended=START + 1, outcome=Outcome.CANCELLED))
        return self.journal[wish.trigger]

    def under_way(self) -> list[str]:
        return sorted(id_ for id_, run in self.journal.items() if run.outcome is None)

    def changes(self, request: runner.Changes) -> runner.Changed:
        after = request.after if request.journal == "j1" else 0
        runs = sorted((run for run in self.journal.values() if run.change > after), key=lambda run: run.change)
        return runner.Changed(journal="j1", runs=tuple(runs[:3]), more=len(runs) > 3)

    def _write(self, run: Run) -> None:
        self._change += 1
        self.journal[run.id] = msgspec.structs.replace(run, change=self._change)


class Machine:
    """One node: its agent's core, its runner, its link, and the frames that are on their way to it."""

    def __init__(self, name: str, clock_off: float) -> None:
        self.name = name
        self.runner = FakeRunner()
        self.coming: list[bytes] = []
        self.asked: list[bytes] = []
        self.linked = False
        self._off = clock_off
        self._cursor = Cursor()
        self.core = self._new_core()

    def _new_core(self) -> AgentCore:
        return AgentCore(name=self.name, verify=lambda _: None, cursor=self._cursor)

    def at(self, steady: float) -> Instant:
        return Instant(wall=START + steady + self._off, steady=steady)

    def link(self, steady: float) -> None:
        if not self.linked:
            self.linked = True
            self.core.connected(self.at(steady))

    def unlink(self) -> None:
        if self.linked:
            self.linked = False
            self.coming.clear()
            self.core.disconnected()

    def restart(self) -> None:
        """The agent dies; the journal and the cursor that was saved last are what is left."""
        self.linked = False
        self.coming.clear()
        self.core = self._new_core()

    def save(self) -> None:
        self._cursor = self.core.outbox.cursor

    def hear(self, place: int, steady: float) -> None:
        self.core.heard(self.coming.pop(place % len(self.coming)), self.at(steady))

    def hand_over(self, steady: float, *, reached: bool, told: bool) -> None:
        """What is due goes to the runner, or the runner is not there, or its answer is lost."""
        for offer in self.core.orders_due(self.at(steady)):
            if not reached:
                self.core.handovers.failed(offer.id, "no runner", steady)
                continue
            run = self.runner.start(network.decode_trigger(offer.order.body).id)
            if told:
                self.core.told(run)
            else:
                self.core.handovers.failed(offer.id, "the runner hung up", steady)

    def take_back(self, steady: float, *, reached: bool, told: bool) -> None:
        """What is to be cancelled goes to the runner, with the same luck."""
        for wish in self.core.cancels.due(steady):
            if not reached:
                self.core.cancel_rejected(wish.trigger, "no runner", self.at(steady), final=False)
                continue
            run = self.runner.cancel(wish)
            if told:
                self.core.told(run)
                self.core.cancels.done(wish.trigger)
            else:
                self.core.cancel_rejected(wish.trigger, "the runner hung up", self.at(steady), final=False)

    def end(self, id_: str, *, told: bool) -> None:
        run = self.runner.end(id_)
        if told:
            self.core.told(run)
        self.core.journal_moved()

    def relay(self, steady: float, *, reached: bool) -> None:
        if request := self.core.changes_wanted(self.at(steady)):
            if reached:
                self.core.changed(self.runner.changes(request))
            else:
                self.core.changes_failed("no runner", self.at(steady))


class World:
    """The hub, its records, its nodes, and the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.records = Records()
        self.nodes = {"web1": Machine("web1", 3600.0), "web2": Machine("web2", -7200.0), "db1": Machine("db1", 0.0)}
        self._made = 0
        self._backup = Records()
        self.hub = self._new_hub()

    def at(self) -> Instant:
        return Instant(wall=START + self.now, steady=self.now)

    def _new_id(self) -> str:
        self._made += 1
        return identifier(self._made.to_bytes(10, "big"))

    def _new_hub(self) -> HubCore:
        ledger = Ledger()
        for stored in self.records.triggers.values():
            if not set(stored.deliveries.values()) <= FINAL - {DeliveryState.CANCELLED}:
                ledger.remember(stored)
        nodes = [
            Node(name, name.ljust(16, "0"), START, relayed=self.records.relayed.get(name, Cursor()))
            for name in self.nodes
        ]
        roster = Roster(nodes, [])
        return HubCore(epoch=self._new_id(), interval=15.0, groups={}, roster=roster, ledger=ledger)

    def restart_hub(self) -> None:
        """The hub dies, and every link with it; what is on disk is what is left."""
        for node in self.nodes.values():
            node.unlink()
        self.hub = self._new_hub()

    def back_up(self) -> None:
        self._backup = copy.deepcopy(self.records)

    def restore(self) -> None:
        """The hub's disk is gone; a new one has the last backup."""
        self.records = copy.deepcopy(self._backup)
        self.restart_hub()

    def _settle(self, decision: Decision) -> None:
        """Commit, then publish to whoever is linked."""
        self.records.commit(decision.changes)
        for frame in decision.frames:
            for node in self.nodes.values():
                topics = (network.TOPIC_ALL, network.TOPIC_HUB, network.topic_of(node.name))
                if node.linked and frame.startswith(topics):
                    node.coming.append(frame)

    def submit(self, target: str, lifetime: float) -> None:
        wanted = Wanted(target=target, action="uptime", lifetime=lifetime)
        try:
            self._settle(self.hub.submit(wanted, "root", self._new_id(), self.at()))
        except NoTargetError:  # pragma: no cover - the roster has every name that is used here
            raise AssertionError from None

    def cancel(self, trigger: str, nodes: str | None) -> None:
        stored = self.records.triggers[trigger]
        with contextlib.suppress(NoTargetError):
            self._settle(self.hub.cancel(trigger, "bob", nodes, self.at(), [stored]))

    def run_locally(self, node: Machine) -> None:
        node.runner.start(self._new_id(), Cause.LOCAL)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self._settle(self.hub.tick(self.at()))
        for node in self.nodes.values():
            if node.linked:
                node.core.tick(node.at(self.now))

    def beacon(self) -> None:
        self._settle(self.hub.beacon(self.at()))

    def ask(self, node: Machine, *, arrives: bool = True, answered: bool = True) -> bool:
        """One question of a node, if it has one. Lost on either way, it costs the link, as the service has it."""
        question = node.core.question(node.at(self.now)) if node.linked else None
        if question is None:
            return False
        frame = network.encode(question)
        node.asked.append(frame)
        answer = self.respond(node, frame) if arrives else b""
        if arrives and answered:
            node.core.answered(question, answer, node.at(self.now))
        else:
            node.unlink()
        return True

    def respond(self, node: Machine, frame: bytes) -> bytes:
        """The hub hears a question, perhaps not for the first time."""
        question = network.decode_question(frame)
        for id_ in self.hub.unknown_triggers(question):
            if id_ in self.records.triggers:
                self.hub.ledger.remember(self.records.triggers[id_])
        decision = self.hub.ask(node.name, question, self.at())
        self._settle(decision)
        return network.encode(decision.answer)

    def heal(self, seconds: int) -> None:
        """Nothing is lost from now on, and every run ends."""
        for second in range(seconds):
            self.pass_time(1.0)
            if second % 5 == 0:
                self.beacon()
            for node in self.nodes.values():
                if node.core.hub_is_silent(node.at(self.now)):
                    node.unlink()
                node.link(self.now)
                while node.coming:
                    node.hear(0, self.now)
                node.hand_over(self.now, reached=True, told=True)
                node.take_back(self.now, reached=True, told=True)
                for id_ in node.runner.under_way():
                    node.end(id_, told=True)
                node.relay(self.now, reached=True)
                while self.ask(node):
                    pass
