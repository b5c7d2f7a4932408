"""Campaign 4: too many at once. See `test_neighbours` for those who misbehave.

NANOEXEC_CHAOS=long        the whole of it: 500 agents, 100 triggers to 100 agents
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import pytest

from benchmarks.processes import cpu_seconds
from tests.chaos import crowd
from tests.chaos.account import Account
from tests.chaos.crowd import Crowd
from tests.chaos.figures import Figures
from tests.chaos.operators import wait_connected
from tests.chaos.pulse import Pulse
from tests.chaos.watched import descriptors
from tests.support.fleet import Fleet

LONG: Final = os.environ.get("NANOEXEC_CHAOS") == "long"
SPREAD: Final = 0.5  # seconds: of a pause of up to one second, drawn at random, eight of ten lie within 0.8
WITHIN: Final = 300.0 if LONG else 100.0  # seconds until a storm must be over
pytestmark = pytest.mark.timeout(900 if LONG else 240)


def names(count: int) -> list[str]:
    return [f"node{number:03}" for number in range(count)]


@contextlib.contextmanager
def figures_of(what: str, record_property: Callable[[str, Any], None]) -> Iterator[Figures]:
    figures = Figures(f"storm: {what}")
    try:
        yield figures
    finally:
        figures.record(record_property)


def test_a_hub_that_ends_has_all_its_agents_back_and_has_lost_no_trigger(
    record_property: Callable[[str, Any], None],
) -> None:
    count = 500 if LONG else 100
    with (
        figures_of(f"the hub ends with {count} agents connected", record_property) as figures,
        Fleet(beacon_interval=15.0) as fleet,
    ):
        account = Account(fleet.root)
        with Crowd(fleet, crowd.enrol(fleet, names(count))) as agents:
            wait_connected(fleet.root, count, WITHIN)
            with Pulse(account, "node000") as pulse:
                scene = Scene(fleet, agents, account, figures, count)
                down = storm(scene, "hub killed", fleet.hub.kill)
                down += storm(scene, "hub stopped", fleet.hub.stop)
            account.settle(WITHIN)
            account.judge(agents.starts(), figures)
        pulse.judge(figures, down=down, ends=2)


class Scene(NamedTuple):
    fleet: Fleet
    agents: Crowd
    account: Account
    figures: Figures
    size: int  # of the crowd


def storm(scene: Scene, how: str, end: Callable[[], object]) -> float:
    """The hub ends and comes back, and so do all its agents. Gives how many seconds there was no hub."""
    fleet, agents, account, figures, count = scene
    before = len(agents.ups())
    for _ in range(2):
        account.submit("ALL")
    figures.count(how)
    began = time.time()
    end()
    fleet.start_hub()
    down = time.time() - began
    for _ in range(3):
        account.submit("ALL")  # into the storm
    wait_connected(fleet.root, count, WITHIN)
    account.settle(WITHIN)
    back = [up - began for up in agents.ups()[before:]]
    dials = agents.redials(began)
    busiest = max(sum(start <= up < start + 1 for up in back) for start in back)
    middle = dials[int(0.9 * count)] - dials[int(0.1 * count)]
    opened = descriptors(crowd.pid_of(fleet))
    figures.fact(f"{how}, all back", f"after {back[count - 1]:.1f} s; there was no hub for {down:.1f}")
    figures.fact(f"{how}, the next one's CPU", f"{cpu_seconds(crowd.pid_of(fleet)):.1f} s")
    figures.fact(f"{how}, descriptors", f"{opened} with {2 * count} connections")
    figures.fact(f"{how}, links up in the busiest second", f"{busiest} of {len(back)}")
    figures.fact(f"{how}, first dials, the middle eight of ten", f"within {middle:.1f} s")
    assert len(back) >= count
    assert middle > SPREAD  # whoever comes back all at once will do so again
    assert opened < 4 * count + 50  # NNG keeps some of those whose handshakes took too long
    return down


def test_a_burst_of_triggers_ends_in_a_final_state_on_every_agent(
    record_property: Callable[[str, Any], None],
) -> None:
    count, many = (100, 100) if LONG else (50, 30)
    with (
        figures_of(f"{many} triggers at once to {count} agents", record_property) as figures,
        Fleet(beacon_interval=15.0) as fleet,
    ):
        account = Account(fleet.root)
        with Crowd(fleet, crowd.enrol(fleet, names(count))) as agents:
            wait_connected(fleet.root, count, WITHIN)
            with Pulse(account, "node000") as pulse:
                began = time.perf_counter()
                for _ in range(many):
                    account.submit("ALL")
                account.settle(WITHIN)
                figures.fact("all final after", f"{time.perf_counter() - began:.1f} s")
            account.settle(WITHIN)
            account.judge(agents.starts(), figures)
        pulse.judge(figures)
