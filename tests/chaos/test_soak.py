"""Campaign 5: a trigger every second for a long time, with faults, and nothing grows.

NANOEXEC_SOAK_SECONDS=NUMBER  so long; a minute unless set, half an hour with NANOEXEC_CHAOS=long
NANOEXEC_CHAOS_SEED=NUMBER    the same faults again

Fifty nodes: a few are real, with an agent, a runner and commands of their own, and suffer the faults; the others are a
`crowd`. The first real node is spared, and it is its agent and runner that are weighed: a process that was killed and
came back has nothing to show. For the same reason the hub is stopped and goes on, and is not killed here.
"""

import contextlib
import os
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import SystemRandom
from typing import Any, Final

import pytest

from benchmarks.processes import memory_kib
from nanoexec.config import Paths
from nanoexec.store import Store
from tests.chaos import crowd
from tests.chaos.crowd import Crowd, Pulse
from tests.chaos.figures import Figures
from tests.chaos.overload_history import Look
from tests.integration.store import records
from tests.support.fleet import Fleet, FleetNode, Service, wait_until

LONG: Final = os.environ.get("NANOEXEC_CHAOS") == "long"
SECONDS: Final = float(os.environ.get("NANOEXEC_SOAK_SECONDS", "1800" if LONG else "60"))
SEED: Final = int(os.environ.get("NANOEXEC_CHAOS_SEED", "0")) or SystemRandom().randrange(1, 10**9)
NODES: Final = 50
REAL: Final = 10 if LONG else 3
FAULT_EVERY: Final = 5.0  # seconds
WARM: Final = 0.4  # the part of the time that is left out: caches fill, buffers grow to their size
GROWTH: Final = {"hub": 8.0, "agent": 4.0, "runner": 3.0}  # MB from the first third of the rest to the last
DAY: Final = 86400.0
pytestmark = pytest.mark.timeout(SECONDS + 300)


class Scale:
    """What some processes weigh and hold open, again and again."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._began = time.monotonic()
        self._memory: dict[str, list[tuple[float, float]]] = {name: [] for name in pids}
        self._open: dict[str, list[int]] = {name: [] for name in pids}

    def look(self) -> None:
        for name, pid in self._pids.items():
            # What is its own: a share of what is shared (PSS) grows when another process ends.
            own = memory_kib(pid, "Anonymous") / 1024
            self._memory[name].append((time.monotonic() - self._began, own))
            self._open[name].append(crowd.descriptors(pid))

    def slope(self, name: str) -> float:
        """MB an hour, by least squares, after the warm-up."""
        return 3600 * statistics.linear_regression(*zip(*self._settled(self._memory[name]), strict=True)).slope

    def growth(self, name: str) -> float:
        """MB from the first third after the warm-up to the last, by medians."""
        return self._between([megabytes for _, megabytes in self._settled(self._memory[name])])

    def opened(self, name: str) -> float:
        """The same for descriptors."""
        return self._between(self._settled(self._open[name]))

    def line(self, name: str) -> str:
        _, own = self._memory[name][-1]
        pss = memory_kib(self._pids[name]) / 1024
        slope = f"slope {self.slope(name):+.1f} MB/h"
        return f"{own:.1f} MB of its own (PSS {pss:.1f}), {slope}; {self._open[name][-1]} descriptors"

    @staticmethod
    def _between(values: list[Any]) -> float:
        third = max(1, len(values) // 3)
        return float(statistics.median(values[-third:]) - statistics.median(values[:third]))

    @staticmethod
    def _settled(values: list[Any]) -> list[Any]:
        return values[int(WARM * len(values)) :]


class Faults:
    """One at a time, each undone before the next."""

    def __init__(self, fleet: Fleet, nodes: list[FleetNode], figures: Figures) -> None:
        self._chance = random.Random(SEED)  # noqa: S311 - to be had again, not to be secret
        self._fleet = fleet
        self._nodes = nodes
        self._figures = figures
        self._undo: Callable[[], None] | None = None

    def strike(self) -> None:
        self.undo()
        node = self._chance.choice(self._nodes)
        kinds: dict[str, Callable[[], Callable[[], None]]] = {
            "agent killed": lambda: self._kill(node.agent, node.agent.start),
            "runner killed": lambda: self._kill(node.runner, node.runner.start),
            "agent stopped": lambda: self._stop(node.agent),
            "runner stopped": lambda: self._stop(node.runner),
            "hub stopped": lambda: self._stop(self._fleet.hub),
        }
        kind = self._chance.choice(list(kinds))
        self._undo = kinds[kind]()
        self._figures.count(kind)
        if kind == "hub stopped":
            time.sleep(1.0)
            self.undo()

    def undo(self) -> None:
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    @staticmethod
    def _kill(service: Service, again: Callable[[], None]) -> Callable[[], None]:
        service.kill()
        return again

    @staticmethod
    def _stop(service: Service) -> Callable[[], None]:
        assert service.process is not None
        process = service.process
        process.send_signal(signal.SIGSTOP)
        return lambda: process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def populated(figures: Figures) -> Iterator[tuple[Fleet, Crowd, list[FleetNode]]]:
    """A hub with all of its nodes connected; the real ones come first."""
    with Fleet(beacon_interval=15.0) as fleet:
        members = crowd.enrol(fleet, [f"crowd{number:02}" for number in range(NODES - REAL)])
        names = [f"real{number:02}" for number in range(REAL)]
        with Crowd(fleet, members) as agents:
            fleet.add(*names)
            for node in fleet.nodes.values():
                command = f"command = ['/bin/sh', '-c', 'echo $NANOEXEC_TRIGGER_ID >> {ledger(node)}']"
                node.action("true", f'{command}\non_busy = "wait"\n')  # each for itself: the ledger counts them
                node.agent.stop()  # it asks the runner for its actions when it starts
                node.agent.start()
            crowd.wait_connected(fleet.root, NODES, 120.0)
            figures.fact("nodes", f"{NODES}, of which {REAL} with a runner of their own")
            yield fleet, agents, list(fleet.nodes.values())


def ledger(node: FleetNode) -> Path:
    return node.root / "ledger"


def pid(service: Service) -> int:
    assert service.process is not None
    return service.process.pid


def test_a_fleet_that_works_for_long_under_faults_loses_nothing_and_does_not_grow(
    record_property: Callable[[str, Any], None],
) -> None:
    figures = Figures(f"soak: {SECONDS:.0f} s of a trigger every second", seed=str(SEED))
    with contextlib.ExitStack() as last:
        last.callback(figures.record, record_property)
        fleet, agents, real = last.enter_context(populated(figures))
        spared, *others = real
        scale = Scale({"hub": crowd.pid_of(fleet), "agent": pid(spared.agent), "runner": pid(spared.runner)})
        faults = Faults(fleet, others, figures)
        with Pulse(fleet.root, every=0.5) as pulse:
            triggers = work(fleet, scale, faults)
        faults.undo()
        wait_until(crowd.all_final(fleet.root, triggers), "every delivery is final", 180.0, 0.5)
        judge(fleet, agents, real, triggers, figures)
        figures.fact("control socket", f"worst answer {pulse.worst:.2f} s (stops of 1 s included)")
        for name in GROWTH:
            figures.fact(name, scale.line(name))
        assert {name: grown for name in GROWTH if (grown := scale.growth(name)) > GROWTH[name]} == {}
        assert {name: grown for name in GROWTH if (grown := scale.opened(name)) > 5} == {}
        assert pulse.unanswered == 0


def work(fleet: Fleet, scale: Scale, faults: Faults) -> list[str]:
    """Trigger once a second, do harm now and then, and weigh, until the time is over; the triggers."""
    triggers: list[str] = []
    began = time.monotonic()
    struck = 0
    while (now := time.monotonic() - began) < SECONDS:
        triggers.append(crowd.submit(fleet.root, "ALL").trigger.id)
        if now > (struck + 1) * FAULT_EVERY:
            struck += 1
            faults.strike()
        scale.look()
        time.sleep(max(0.0, len(triggers) - (time.monotonic() - began)))
    return triggers


def judge(fleet: Fleet, agents: Crowd, real: list[FleetNode], triggers: list[str], figures: Figures) -> None:
    """The hub's history against what the commands themselves have written."""
    states = sum((crowd.states(fleet.root, one) for one in triggers), Counter())
    starts = agents.starts()
    for node in real:
        starts.update((trigger, node.name) for trigger in ledger(node).read_text().split())
    figures.add("triggers", len(triggers))
    figures.add("deliveries", states.total())
    figures.add("starts", starts.total())
    figures.add("lost", len(triggers) * NODES - len(starts))
    figures.add("doubled", starts.total() - len(starts))
    assert states == {"finished": len(triggers) * NODES}
    assert set(starts.values()) == {1}
    assert len(starts) == len(triggers) * NODES


def test_a_database_grows_no_further_once_its_retention_is_reached(
    tmp_path: Path, record_property: Callable[[str, Any], None]
) -> None:
    kept, days, a_day = 5, 30, 500
    figures = Figures(f"soak: {days} days of history, of which {kept} are kept")
    path = Paths(root=tmp_path).hub_store
    path.parent.mkdir(parents=True)
    sizes = []
    with contextlib.closing(Store.open(path)) as store:
        for day in range(days):
            at = day * DAY
            store.commit([records.local(f"{day}z{number}", "web1", at=at) for number in range(a_day)])
            store.purge(at - kept * DAY)
            while store.shrink_some():
                pass
            sizes.append(Look(path).pages()[0])
    figures.fact("pages after each fifth day", " ".join(map(str, sizes[::5])))
    figures.record(record_property)
    assert sizes[-1] <= 1.3 * max(sizes[: 2 * kept])
