"""The campaign: real processes that are failed at random, and triggers, cancellations and runs by hand meanwhile.

What happens is drawn from one seed; when it happens depends on the machine. Everything that is done has something that
undoes it, due some time later: nothing is left broken at the end, when all has to come to rest by itself.
"""

import heapq
import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import Final

from nanoexec.config import Paths
from nanoexec.model import Cause, Run
from nanoexec.runner.journal import Journal
from nanoexec.store import Store
from nanoexec.wire import control
from tests.chaos import faulty
from tests.chaos.figures import Figures
from tests.chaos.fleet_of_processes import ChaosNode, Disk, FaultyService, FleetOfProcesses, peak
from tests.chaos.processes_ledger import COALESCED, KINDS, Told, Verdict, judge, read
from tests.support.fleet import wait_until

HIGHEST: Final = {
    "hub": 200,
    "runner": 60,
    "agent": 90,
    "supervisor": 60,
}  # MiB; Python with its libraries has 20 to 70
_RESPITE: Final = 0.3  # seconds after which whoever died is started again, as systemd does
_MOST_OPEN: Final = 400  # deliveries: beyond it no more is triggered, for a machine with two cores has to do it all
_LIFETIME: Final = 3600.0
_SHORT: Final = 2.0
_AT_THE_HUB: Final = 0.15  # of the faults that may as well be a node's: without it nothing is triggered
_TO_ALL: Final = 0.4  # of the triggers


class Campaign:
    """One campaign over one fleet. `rage`, then `settle`, then `verdict`."""

    def __init__(self, fleet: FleetOfProcesses, chance: Random, figures: Figures) -> None:
        self.fleet = fleet
        self.accepted: dict[str, tuple[str, ...]] = {}
        self.stopped: set[str] = set()
        self.peaks: dict[str, int] = dict.fromkeys(HIGHEST, 0)
        self._chance = chance
        self._figures = figures
        self._undoing: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._away: set[FaultyService] = set()  # who is down, and will be started by what is due
        self._points = sorted(faulty.points())

    # What happens

    def rage(self, seconds: float) -> None:
        """Let things happen for so long."""
        happenings = (
            *(self._trigger,) * 16,
            *(self._cancel, self._by_hand) * 2,
            *(self._kill_hub, self._kill_agent, self._kill_runner, self._stop_somebody, self._starve) * 2,
            *(self._kill_supervisor, self._fail_at_a_write) * 4,
            *(self._restart, self._fill_disk, self._read_only, self._slow_disk),
        )
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._do_what_is_due()
            self._chance.choice(happenings)()
            self._rest(self._chance.uniform(0.0, 0.3))

    def settle(self, within: float) -> None:
        """Nothing more happens: wait until all of it is over, and nobody owes anybody a word."""
        while self._undoing:
            heapq.heappop(self._undoing)[2]()
        wait_until(self._is_at_rest, "every delivery final, every run at the hub", within=within, every=0.3)

    def end(self) -> None:
        """Have everybody stop, properly."""
        for node in self.fleet.chaos_nodes():
            node.stop()
        status = self.fleet.hub.stop()
        assert status == 0, f"the hub ended with {status}"

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._do_what_is_due()
            time.sleep(min(left, 0.05))

    def _later(self, seconds: float, undo: Callable[[], None]) -> None:
        heapq.heappush(self._undoing, (time.monotonic() + seconds, next(self._numbers), undo))

    def _do_what_is_due(self) -> None:
        while self._undoing and self._undoing[0][0] <= time.monotonic():
            heapq.heappop(self._undoing)[2]()
        self._revive()
        self._measure()
        self.fleet.reap()

    def _revive(self) -> None:
        """As systemd would: who ended by itself is started again."""
        for service in self.fleet.services():
            if service.pid is None and service not in self._away:
                self._figures.add("restarts")
                self._away.add(service)
                self._later(_RESPITE, lambda service=service: self._start(service))  # type: ignore[misc]

    def _start(self, service: FaultyService, **environment: str) -> None:
        self._away.discard(service)
        if service.pid is None:
            service.start(**environment)

    def _measure(self) -> None:
        for kind, pids in self._by_kind().items():
            self.peaks[kind] = max(self.peaks[kind], *(peak(pid) for pid in pids), 0)

    def _by_kind(self) -> dict[str, list[int | None]]:
        nodes = self.fleet.chaos_nodes()
        return {
            "hub": [self.fleet.hub.pid],
            "agent": [node.agent.pid for node in nodes],
            "runner": [node.runner.pid for node in nodes],
            "supervisor": [*self.fleet.supervisors()],
        }

    # What people do

    def _trigger(self) -> None:
        status = self.fleet.ask(control.AskStatus())
        if not isinstance(status, control.Status) or status.open_deliveries > _MOST_OPEN:
            return
        for _ in range(self._chance.randint(1, 4)):
            self._trigger_one()

    def _trigger_one(self) -> None:
        action = self._chance.choice((*KINDS, "plain", "plain", "slow", COALESCED, COALESCED))
        names = [node.name for node in self.fleet.chaos_nodes()]
        target = "ALL" if self._chance.random() < _TO_ALL else self._chance.choice(names)
        lifetime = self._chance.choice([_LIFETIME] * 9 + [_SHORT])
        self.submit(target, action, lifetime)

    def submit(self, target: str, action: str, lifetime: float = _LIFETIME) -> str | None:
        """Trigger; the id, None unless the hub has said that it is accepted."""
        wanted = control.Wanted(target=target, action=action, lifetime=lifetime)
        said = self.fleet.ask(control.Submit(wanted=wanted, watch=False))
        if not isinstance(said, control.Accepted):
            self._figures.add("triggers not accepted")
            return None
        self._figures.add("triggers")
        self._figures.add("deliveries", len(said.nodes))
        self.accepted[said.trigger.id] = said.nodes
        return said.trigger.id

    def _cancel(self) -> None:
        if self.accepted:
            self.cancel(self._chance.choice(list(self.accepted)[-5:]))

    def cancel(self, id_: str) -> None:
        self.stopped.add(id_)  # whether or not the hub says that it has heard it
        self.fleet.ask(control.Cancel(id=id_, watch=False))
        self._figures.add("cancellations")

    def _by_hand(self) -> None:
        if len(self.fleet.by_hand) < 3:
            self._figures.add("runs by hand")
            self.fleet.run_by_hand(self._node(), self._chance.choice(["plain", "slow", COALESCED]))

    # What fails

    def _node(self) -> ChaosNode:
        return self._chance.choice(self.fleet.chaos_nodes())

    def _somebody(self) -> FaultyService:
        return self._chance.choice(list(self.fleet.services()))

    def _kill_hub(self) -> None:
        if self._chance.random() < _AT_THE_HUB:  # it costs all agents a link
            self._kill("hub killed", self.fleet.hub)

    def _kill_agent(self) -> None:
        self._kill("agent killed", self._node().agent)

    def _kill_runner(self) -> None:
        self._kill("runner killed", self._node().runner)

    def _kill(self, kind: str, service: FaultyService, **environment: str) -> None:
        if service.pid is None or service in self._away:
            return
        self._figures.count(kind)
        self._away.add(service)
        service.kill()
        self._later(self._chance.uniform(0.0, 1.5), lambda: self._start(service, **environment))

    def _kill_supervisor(self) -> None:
        supervisors = self.fleet.supervisors()
        if supervisors:
            pid = self._chance.choice(supervisors)
            self.fleet.killed.add(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, SIGKILL)
                self._figures.count("supervisor killed")

    def _restart(self) -> None:
        service = self._somebody()
        if service.pid is None or service in self._away:
            return
        self._figures.count("restart")
        service.signal(SIGCONT)
        service.stop(SIGTERM)
        service.start()

    def _stop_somebody(self) -> None:
        service = self._somebody()
        self._figures.count("stopped for a while")
        service.signal(SIGSTOP)
        self._later(self._chance.uniform(0.2, 3.0), lambda: service.signal(SIGCONT))

    def _starve(self) -> None:
        """EMFILE, of the very next open or a little later; runners the most, for what they fork has to do without."""
        service = self._chance.choice([self._somebody(), self._node().runner])
        self._figures.count("descriptors exhausted")
        service.limit(self._chance.choice([0, 1, 2, 3, 4, 4, 5, 5, 6]))
        self._later(self._chance.uniform(0.2, 2.0), lambda: service.limit(None))

    def _fail_at_a_write(self) -> None:
        """The next one of a kind that this process, or a child of it, comes to."""
        hubs = self._chance.random() < _AT_THE_HUB
        mine = [point for point in self._points if point.startswith("Store") == hubs]
        point, when = self._chance.choice(mine), self._chance.choice(faulty.WHENS)
        how = self._chance.choice([faulty.DIE, faulty.DIE, faulty.ERROR])
        service = self.fleet.hub if hubs else self._node().runner
        self._kill(f"{how} at a write", service, NANOEXEC_FAULT=f"{point}.{when}:{self._chance.randint(1, 4)}:{how}")

    def _slow_disk(self) -> None:
        slow = f"{self._chance.uniform(0.02, 0.3):.3f}"
        self._kill("slow disk", self._chance.choice([self.fleet.hub, self._node().runner]), NANOEXEC_FAULT_SLOW=slow)

    def _fill_disk(self) -> None:
        disks = list(self.fleet.disks())
        if disks:
            disk = self._chance.choice(disks)
            self._figures.count("disk full")
            with suppress(OSError):  # it is read-only
                disk.fill()
            self._later(self._chance.uniform(0.5, 4.0), lambda: self._empty(disk))

    def _empty(self, disk: Disk) -> None:
        try:
            disk.empty()
        except OSError:  # it is read-only by now
            self._later(_RESPITE, lambda: self._empty(disk))

    def _read_only(self) -> None:
        """The file system of a node, or of the hub, which then cannot start."""
        disks = list(self.fleet.disks())
        if not disks:
            return
        disk = disks[0] if self._chance.random() < _AT_THE_HUB else self._chance.choice(disks[1:] or disks)
        hubs = disk is self.fleet.hub_disk
        if hubs:
            if self.fleet.hub in self._away or self.fleet.hub.pid is None:
                return
            self.fleet.hub.kill()
        if disk.read_only():
            self._figures.count("read-only database")
            self._later(self._chance.uniform(0.5, 3.0), disk.writable)

    # What came of it

    def _is_at_rest(self) -> bool:
        self._do_what_is_due()
        status = self.fleet.ask(control.AskStatus())
        if not isinstance(status, control.Status) or status.open_deliveries or self.fleet.by_hand:
            return False
        return self._journals_are_at_the_hub()

    def _journals_are_at_the_hub(self) -> bool:
        with _opened(self.fleet.paths) as store:
            known = {(entry.node, entry.id) for entry in store.history(limit=1_000_000) if entry.outcome}
        runs = [(node.name, run) for node in self.fleet.chaos_nodes() for run in journal_of(node)]
        return all(run.outcome and (name, run.id) in known for name, run in runs)

    def verdict(self) -> Verdict:
        """Compare the ledger with history and journals. After `end`."""
        fleet = self.fleet
        killed = fleet.killed | {int(pid) for what in ("dead", "error") for pid, *_ in fleet.fault_lines(what)}
        journals = {(run.id, node.name): run for node in fleet.chaos_nodes() for run in journal_of(node)}
        lines = read(fleet.ledger)
        with _opened(fleet.paths) as store:
            ids = {id_ for id_ in (*self.accepted, *(line.id for line in lines)) if store.stored_trigger(id_)}
            details = [store.trigger(id_) for id_ in ids]
            alone = [entry for entry in store.history(limit=1_000_000) if entry.cause is not Cause.TRIGGER]
            runs = [reported for entry in alone for reported in store.runs(entry.id)]
        told = Told(
            accepted=self.accepted,
            deliveries={(each.trigger, each.node): each for detail in details for each in detail.deliveries},
            local={(reported.node, reported.run.pid or 0): reported.run for reported in runs},
            journals=journals,
            killed=frozenset(killed),
            stopped=frozenset(self.stopped),
        )
        verdict = judge(lines, told)
        self._figures.add("starts", sum(line.what == "start" for line in lines))
        self._figures.add("lost", len(verdict.lost))
        self._figures.add("doubled", len(verdict.doubled))
        self._figures.add("successes that nobody did", len(verdict.invented))
        self._figures.fact("most memory, MiB", ", ".join(f"{kind} {size}" for kind, size in self.peaks.items()))
        return verdict


@contextmanager
def _opened(paths: Paths) -> Iterator[Store]:
    store = Store.open(paths.hub_store)
    try:
        yield store
    finally:
        store.close()


def journal_of(node: ChaosNode) -> tuple[Run, ...]:
    """Everything in a node's journal."""
    found: list[Run] = []
    with Journal.open(node.journal, "0" * 16) as journal:
        more = True
        while more:
            runs, more = journal.changes(found[-1].change if found else 0, 1000)
            found += runs
    return tuple(found)
