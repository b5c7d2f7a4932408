"""Campaign 5: a trigger every second for a long time, with faults, and nothing grows. See `test_retention` for disks.

NANOEXEC_SOAK_SECONDS=NUMBER  so long; a minute unless set, half an hour with NANOEXEC_CHAOS=long
NANOEXEC_CHAOS_SEED=NUMBER    the same faults again

Fifty nodes: a few are real, with an agent, a runner and commands of their own, and suffer the faults; the others are a
`crowd`. The first real node is spared, and its agent and runner are weighed: a process that was killed and came back
has nothing to show. For the same reason the hub is stopped and goes on, and is not killed here. One agent of the crowd
has a process of its own and is weighed, too: its link breaks all the time, by a proxy, and that is all it suffers.
Those who are weighed have more to do than the others, for a leak to show.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from random import SystemRandom
from typing import Any, Final, NamedTuple

import pytest

from tests.chaos import crowd
from tests.chaos.account import Account
from tests.chaos.crowd import Crowd
from tests.chaos.figures import Figures
from tests.chaos.ledgers import starts, teach
from tests.chaos.operators import wait_connected
from tests.chaos.proxy import Proxy
from tests.chaos.pulse import Pulse
from tests.chaos.scale import Scale, creep, growth, risen, settled
from tests.support.fleet import Fleet, FleetNode, Service, free_ports

LONG: Final = os.environ.get("NANOEXEC_CHAOS") == "long"
SECONDS: Final = float(os.environ.get("NANOEXEC_SOAK_SECONDS", "1800" if LONG else "60"))
SEED: Final = int(os.environ.get("NANOEXEC_CHAOS_SEED", "0")) or SystemRandom().randrange(1, 10**9)
NODES: Final = 50
REAL: Final = 10 if LONG else 3
SPARED: Final = "real00"
BENT: Final = "bent00"
OFTEN: Final = 4  # triggers a second for these two alone
FAULT_EVERY: Final = 5.0  # seconds
PATIENCE: Final = 0.5  # seconds that the one whose link breaks pauses at most before it dials again
STEP: Final = 1.5  # MB that a process may take at once, for what it seldom does
STOPPED: Final = 1.0  # seconds for which the hub is stopped
pytestmark = pytest.mark.timeout(SECONDS + 300)


class Growth(NamedTuple):
    """What a process may gain: MB in any case, and bytes for each run that passes through it."""

    megabytes: float
    bytes_a_run: float
    runs: float  # a second

    def most(self, seconds: float) -> float:
        return self.megabytes + self.bytes_a_run * self.runs * seconds / 1e6


GROWTH: Final = {
    "hub": Growth(2.0, 200, NODES + 2 * OFTEN),
    "agent": Growth(0.4, 200, 1 + OFTEN),
    "runner": Growth(0.3, 200, 1 + OFTEN),
    # In its first minutes it takes room for what it seldom does: threads, and to see why there is no link. On a busy
    # machine it may come to that late: a `STEP`.
    "agent that redials": Growth(0.4 if SECONDS > 200 else 1.5, 200, 1 + OFTEN),
}


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
            time.sleep(STOPPED)
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


class Populated(NamedTuple):
    """A hub with all of its nodes connected."""

    fleet: Fleet
    crowds: tuple[Crowd, Crowd]  # the second is that of one agent, behind the proxy
    proxy: Proxy

    @property
    def real(self) -> list[FleetNode]:
        return list(self.fleet.nodes.values())


@contextlib.contextmanager
def populated() -> Iterator[Populated]:
    with Fleet(beacon_interval=15.0) as fleet:
        *members, bent = crowd.enrol(fleet, [*(f"crowd{number:02}" for number in range(NODES - REAL - 1)), BENT])
        publish, report = free_ports(2)
        with (
            Proxy([], "127.0.0.1", (publish, fleet.keys["publish_port"]), (report, fleet.keys["report_port"])) as proxy,
            Crowd(fleet, members) as agents,
            Crowd(fleet, [bent], "bent", ports=(publish, report), patience=PATIENCE) as other,
        ):
            fleet.add(*(f"real{number:02}" for number in range(REAL)))
            for node in fleet.nodes.values():
                teach(node)
            wait_connected(fleet.root, NODES, 120.0)
            yield Populated(fleet, (agents, other), proxy)


def pid(service: Service) -> int:
    assert service.process is not None
    return service.process.pid


def test_a_fleet_that_works_for_long_under_faults_loses_nothing_and_does_not_grow(
    record_property: Callable[[str, Any], None],
) -> None:
    figures = Figures(f"soak: {SECONDS:.0f} s of a trigger every second", seed=str(SEED))
    with contextlib.ExitStack() as last:
        last.callback(figures.record, record_property)
        all_ = last.enter_context(populated())
        figures.fact("nodes", f"{NODES}, of which {REAL} with a runner of their own")
        spared, *others = all_.real
        weighed = {
            "hub": crowd.pid_of(all_.fleet),
            "agent": pid(spared.agent),
            "runner": pid(spared.runner),
            "agent that redials": all_.crowds[1].pids[0],
        }
        scale, account = Scale(weighed), Account(all_.fleet.root)
        faults = Faults(all_.fleet, others, figures)
        with Pulse(account, "crowd00", every=0.5) as pulse:
            try:
                work(account, scale, faults, all_.proxy, figures)
            finally:
                faults.undo()
        account.settle(180.0)
        account.judge(sum((each.starts() for each in all_.crowds), starts(all_.real)), figures)
        for name in GROWTH:
            figures.fact(name, scale.line(name))
        pulse.judge(figures, more=STOPPED)
        most = {name: GROWTH[name].most(settled(SECONDS)) for name in GROWTH}
        weights = {name: scale.megabytes(name) for name in GROWTH}
        assert {name: crept for name in GROWTH if (crept := creep(weights[name])) > most[name]} == {}, most
        assert {name: grown for name in GROWTH if (grown := growth(weights[name])) > most[name] + STEP} == {}, most
        assert {name: more for name in GROWTH if (more := risen(scale.descriptors(name))) > 3} == {}
        assert len(all_.crowds[1].breaks()) > SECONDS / 4  # it has been weighed while it redialled


def work(account: Account, scale: Scale, faults: Faults, proxy: Proxy, figures: Figures) -> None:
    """Trigger every second, do harm now and then, and weigh, until the time is over."""
    began = time.monotonic()
    turns = struck = 0
    while (now := time.monotonic() - began) < SECONDS:
        turns += 1
        account.submit("ALL")
        for _ in range(OFTEN):
            account.submit(f"{SPARED},{BENT}")
        if now > (struck + 1) * FAULT_EVERY:
            struck += 1
            faults.strike()
        figures.count("connection reset", proxy.tell("reset"))
        proxy.tell("pass")
        scale.look()
        time.sleep(max(0.0, turns - (time.monotonic() - began)))
