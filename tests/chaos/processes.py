"""The campaign: real processes that are failed at random, and triggers, cancellations and runs by hand meanwhile.

What happens is drawn from one seed; when it happens depends on the machine. In the end all has to come to rest by
itself, and the ledger is compared with what nanoexec says.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Final

from nanoexec.config import Paths
from nanoexec.errors import NanoexecError
from nanoexec.model import FINAL, Cause, Run
from nanoexec.runner.journal import Journal
from nanoexec.store import Store
from nanoexec.wire import control
from tests.chaos.figures import Figures
from tests.chaos.fleet_of_processes import ChaosNode, FleetOfProcesses
from tests.chaos.process_tree import peak
from tests.chaos.processes_faults import FaultLog
from tests.chaos.processes_ledger import Told, Verdict, judge, key_of, read
from tests.chaos.processes_mischief import Mischief
from tests.chaos.processes_people import People
from tests.support.fleet import wait_until

HIGHEST: Final = {
    "hub": 200,
    "runner": 60,
    "agent": 90,
    "supervisor": 60,
}  # MiB; Python with its libraries has 20 to 70
_ALL: Final = 1_000_000  # entries of history


class Campaign:
    """One campaign over one fleet. `rage`, then `settle`, then `end`, then `verdict`."""

    def __init__(self, fleet: FleetOfProcesses, chance: Random, figures: Figures) -> None:
        self.fleet = fleet
        self.people = People(fleet, chance, figures)
        self.mischief = Mischief(fleet, self.people, chance, figures)
        self.peaks: dict[str, int] = dict.fromkeys(HIGHEST, 0)
        self._chance = chance
        self._figures = figures
        self._over = 0.0

    def rage(self, seconds: float) -> None:
        """Let things happen for so long. Each kind of mischief once, one after the other, then by chance alone."""
        people = [*(self.people.trigger,) * 16, *(self.people.cancel_one, self.people.run_by_hand) * 2]
        mischief = self.mischief.ways()
        first = list(dict.fromkeys(mischief))
        self._chance.shuffle(first)
        happenings: list[Callable[[], object] | None] = [*people, *[None] * len(mischief)]
        self.mischief.begin(seconds)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._live()
            if happening := self._chance.choice(happenings):
                happening()
            elif not (first and self._strike(first)):
                self._chance.choice(mischief)()
            self._rest(self._chance.uniform(0.0, 0.2))

    @staticmethod
    def _strike(ways: list[Callable[[], bool]]) -> bool:
        """Do the next of these; it comes again if it cannot be done now."""
        way = ways.pop(0)
        done = way()
        ways += [] if done else [way]
        return done

    def settle(self, within: float) -> None:
        """Nothing more happens but what undoes it: wait until all is over, and nobody owes anybody a word."""
        self.mischief.agenda.drop()
        try:
            wait_until(self._is_at_rest, "every delivery final, every run at the hub", within=within, every=0.3)
        except AssertionError as error:
            try:
                owed = self._owed()
            except NanoexecError as fault:
                owed = [str(fault)]
            self._figures.add("lost", max(1, len(owed)))
            raise AssertionError(f"{error}: {owed}") from None
        self._over = time.time()

    def end(self) -> None:
        """Have everybody stop, properly."""
        for node in self.fleet.chaos_nodes():
            node.stop()
        status = self.fleet.hub.stop()
        assert status == 0, f"the hub ended with {status}"

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._live()
            time.sleep(min(left, 0.05))

    def _live(self) -> None:
        self.mischief.agenda.do_what_is_due()
        self.mischief.revive()
        self._measure()
        self.fleet.reap()

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

    # What came of it

    def _is_at_rest(self) -> bool:
        self._live()
        if self.mischief.agenda or self.fleet.by_hand:
            return False
        status = self.fleet.ask(control.AskStatus())
        return isinstance(status, control.Status) and not (status.open_deliveries or self._owed())

    def _owed(self) -> list[str]:
        """Deliveries that are open, and runs of which the hub has not heard how they ended."""
        with _opened(self.fleet.paths) as store:
            stored = [store.stored_trigger(id_) for id_ in self.people.accepted]
            known = {(entry.node, entry.id) for entry in store.history(limit=_ALL) if entry.outcome}
        deliveries = [(each.trigger.id, *delivery) for each in stored if each for delivery in each.deliveries.items()]
        runs = [(node.name, run) for node in self.fleet.chaos_nodes() for run in journal_of(node)]
        return [
            *(f"{id_} on {node} is {state}" for id_, node, state in deliveries if state not in FINAL),
            *(f"{run.id} on {node} is not reported" for node, run in runs if (node, run.id) not in known),
        ]

    def verdict(self, least: float = 0.6) -> Verdict:
        """Compare the ledger with history and journals. After `end`. ``least`` is as for `judge`."""
        fleet, people = self.fleet, self.people
        lines = read(fleet.ledger)
        with _opened(fleet.paths) as store:
            ids = {id_ for id_ in (*people.accepted, *(line.id for line in lines)) if store.stored_trigger(id_)}
            details = [store.trigger(id_) for id_ in ids]
            alone = [entry for entry in store.history(limit=_ALL) if entry.cause is not Cause.TRIGGER]
            runs = [reported for entry in alone for reported in store.runs(entry.id)]
        triggers = [*(said.trigger for said in people.accepted.values()), *(detail.trigger for detail in details)]
        told = Told(
            accepted={id_: said.nodes for id_, said in people.accepted.items()},
            triggers={trigger.id: trigger for trigger in triggers},
            deliveries={(each.trigger, each.node): each for detail in details for each in detail.deliveries},
            local={key_of(reported.run, reported.node): reported.run for reported in runs},
            journals={(run.id, node.name): run for node in fleet.chaos_nodes() for run in journal_of(node)},
            killed=frozenset(fleet.killed | FaultLog(fleet.fault_lines).gone()),
            stopped=frozenset(people.stopped),
            starved=frozenset(self.mischief.starved),
            over=self._over,
            reaper=os.getpid(),
        )
        verdict = judge(lines, told, least)
        self.mischief.tally()
        self._figures.add("starts", sum(line.what == "start" for line in lines))
        self._figures.add("lost", len(verdict.lost))
        self._figures.add("doubled", len(verdict.doubled))
        self._figures.add("told, and not done", len(verdict.invented))
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
