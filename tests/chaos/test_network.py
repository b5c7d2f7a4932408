"""Campaign 3: whatever a network does to hub and nodes, they notice, come back, and each trigger ran once.

NANOEXEC_CHAOS=long        more rounds; silence also in real time, the ten minutes at a third of the speed
NANOEXEC_CHAOS_SEED=NUMBER replays the choice of faults
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from random import Random, SystemRandom
from statistics import median
from typing import Any, Final

import pytest

from tests.chaos.figures import Figures
from tests.chaos.lan import HUB, why_not
from tests.chaos.network import BOTH_WAYS, HELD, NOTICED_WITHIN, PUBLISH, REPORTS, TO_HUB, TO_NODE, Net

LONG: Final = os.environ.get("NANOEXEC_CHAOS") == "long"
SEED: Final = int(os.environ.get("NANOEXEC_CHAOS_SEED", "0")) or SystemRandom().randrange(1, 10**9)
PARTITION: Final = 600.0  # seconds of the fleet's time
pytestmark = [
    pytest.mark.timeout(3600 if LONG else 300),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]
Record = Callable[[str, Any], None]


@contextmanager
def campaign(title: str, record: Record) -> Iterator[Figures]:
    """Its figures, recorded whatever comes of it."""
    figures = Figures(f"network: {title}", seed=f"{SEED} (again: NANOEXEC_CHAOS_SEED={SEED})")
    try:
        yield figures
    finally:
        figures.record(record)


@pytest.fixture
def random() -> Random:
    return Random(SEED)  # noqa: S311 - chooses faults; nothing secret hangs on it


def tell(figures: Figures, who: str, seconds: list[float]) -> None:
    figures.fact(
        f"{who} noticed silence after", f"{min(seconds):.1f} to {max(seconds):.1f} s, median {median(seconds):.1f} s"
    )


def notice(net: Net, names: list[str], random: Random) -> tuple[list[float], list[float]]:
    """One round of silence of every kind: what the agents needed to notice, and the hub."""
    cuts = dict(zip(random.sample(names, 4), (BOTH_WAYS, TO_HUB, TO_NODE, REPORTS), strict=True))
    net.issue()  # on its way when the silence begins
    found = net.silence(cuts | {net.proxied: HELD})
    net.issue(2)
    net.settle()
    return [agent for agent, _ in found.values()], [hub for _, hub in found.values()]


def test_both_sides_notice_a_silent_peer(random: Random, record_property: Record) -> None:
    names = [f"web{number}" for number in range(1, 5)]
    agents: list[float] = []
    hub: list[float] = []
    speed = 1.0 if LONG else 10.0
    with campaign("silence", record_property) as figures, Net(speed, figures) as net:
        net.add(*names)
        net.add_behind_proxy("far1")
        for _ in range(2 if LONG else 1):
            by_agents, by_hub = notice(net, names, random)
            agents += by_agents
            hub += by_hub
        net.compare()
        assert [name for name in net.nodes if not net.breaks(name)] == []  # each is said in the hub's log
        tell(figures, "agents", agents)
        tell(figures, "the hub", hub)
        figures.fact("speed of time", f"{speed:.0f}")
    # A tenth of a second on a busy machine is a second of theirs: in fast time one of them may have come late.
    worst = max if LONG else median
    assert worst(agents) <= NOTICED_WITHIN
    assert worst(hub) <= NOTICED_WITHIN


def test_each_trigger_runs_once_through_resets_losses_and_moves(random: Random, record_property: Record) -> None:
    names = [f"web{number}" for number in range(1, 5)]
    bends = ["reset", "truncate", "delay 0.5", "crumble"]
    with campaign("breaks", record_property) as figures, Net(10.0, figures) as net:
        faults: list[Callable[[str], None]] = [net.reset, net.lose, net.move, net.deafen]
        net.add(*names)
        net.add_behind_proxy("far1")
        for number in range(20 if LONG else 2):
            random.shuffle(faults)
            random.shuffle(bends)
            for name, fault, bend in zip(names, faults, bends, strict=True):
                net.issue()  # on its way, perhaps
                fault(name)
                net.bend(bend)
            if number % 2:
                net.move(HUB)
            for _ in range(4):
                net.issue()
                net.pass_time(random.uniform(1.0, 10.0))
            net.settle()
        net.compare()


def test_a_node_returns_from_ten_minutes_of_nothing_and_has_dialled_all_the_time(record_property: Record) -> None:
    speed = 8.0 if LONG else 30.0
    with campaign("ten minutes", record_property) as figures, Net(speed, figures) as net:
        net.add("away", "here")
        net.lan.watch_dials("away", PUBLISH)
        net.issue()
        net.silence({"away": BOTH_WAYS})
        before = net.breaks("here")
        dials = [net.lan.dials("away")]
        for _ in range(4):
            net.issue()
            net.pass_time(PARTITION / 4)
            dials.append(net.lan.dials("away"))
        assert "away" not in net.here()
        needless = net.breaks("here") - before
        net.settle()
        net.compare()
        quarters = [after - before for before, after in pairwise(dials)]
        figures.fact("redials in 10 minutes", f"{sum(quarters)}, by quarters {quarters}")
        figures.fact("breaks of the sound link", str(needless))
        figures.fact("speed of time", f"{speed:.0f}")
        assert all(quarters)
        # Whoever lets its heart not beat is cut off every 40 s; a busy machine may hold everybody up once or twice.
        assert needless <= PARTITION / 40 / 3
