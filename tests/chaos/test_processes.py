"""Campaign 2: real hub, agents and runners over TLS, failed in every way; what commands did against what is told.

NANOEXEC_CHAOS=long            twenty nodes for ten minutes, and every write of journal and store
NANOEXEC_CHAOS_SECONDS=NUMBER  so long
NANOEXEC_CHAOS_SEED=NUMBER     replays what was drawn
"""

import contextlib
import os
from collections.abc import Callable
from random import Random, SystemRandom
from typing import Any, Final

import pytest

from tests.chaos import faulty
from tests.chaos.figures import Figures
from tests.chaos.fleet_of_processes import FleetOfProcesses
from tests.chaos.processes import HIGHEST, Campaign
from tests.chaos.processes_ledger import Verdict
from tests.chaos.processes_mischief import AT_A_NODE, AT_THE_HUB
from tests.chaos.processes_writes import Writes, all_deaths
from tests.support.fleet import wait_until

LONG: Final = os.environ.get("NANOEXEC_CHAOS") == "long"
SECONDS: Final = float(os.environ.get("NANOEXEC_CHAOS_SECONDS", "600" if LONG else "12"))
SEED: Final = int(os.environ.get("NANOEXEC_CHAOS_SEED", "0")) or SystemRandom().randrange(1, 10**9)
NODES: Final = int(os.environ.get("NANOEXEC_CHAOS_NODES", "20" if LONG else "5"))
LOUD: Final = 1 << 30 if LONG else 1 << 26  # bytes
DISKS: Final = 0 if os.geteuid() else max(2, NODES // 3)
SETTLING: Final = 400.0 if LONG else 80.0  # seconds: a link that broke often is dialled again after a minute


@pytest.mark.timeout(7200 if LONG else 300)
def test_nothing_is_lost_or_doubled_whichever_process_is_failed(record_property: Callable[[str, Any], None]) -> None:
    figures = Figures("processes", seed=f"{SEED} (again: NANOEXEC_CHAOS_SEED={SEED})")
    if not DISKS:
        figures.fact("not done", "full and read-only disks: they need root")
    print(f"to replay: NANOEXEC_CHAOS_SEED={SEED}")  # noqa: T201 - if it failed
    try:
        with FleetOfProcesses(loud=LOUD, disks=DISKS) as fleet:
            fleet.gather(*(f"node{number}" for number in range(1, NODES + 1)))
            campaign = Campaign(fleet, Random(SEED), figures)  # noqa: S311 - nothing secret
            campaign.rage(SECONDS)
            campaign.settle(SETTLING)
            campaign.end()
            _wait_for_the_last(fleet)
            verdict = campaign.verdict()
            assert verdict == Verdict(), repr(verdict)
            assert fleet.left() == {}
            assert not LONG or campaign.mischief.missing() == set()
            assert {kind for kind, size in campaign.peaks.items() if size > HIGHEST[kind]} == set(), campaign.peaks
    finally:
        figures.record(record_property)


@pytest.mark.timeout(3600 if LONG else 300)
def test_nothing_is_lost_or_doubled_at_whichever_write_a_process_dies(
    record_property: Callable[[str, Any], None],
) -> None:
    figures = Figures("processes, at each write", seed=f"{SEED} (again: NANOEXEC_CHAOS_SEED={SEED})")
    print(f"to replay: NANOEXEC_CHAOS_SEED={SEED}")  # noqa: T201 - if it failed
    deaths = all_deaths()
    chosen = deaths if LONG else Random(SEED).sample(deaths, 3)  # noqa: S311 - nothing secret
    try:
        with FleetOfProcesses(loud=LOUD, disks=0) as fleet:
            fleet.gather("node1")
            campaign = Campaign(fleet, Random(SEED), figures)  # noqa: S311 - nothing secret
            writes = Writes(fleet, campaign.people)
            for point, when in chosen:
                writes.die(point, when)
            assert campaign.people.submit("node1", "plain"), "after all of this one more is accepted"
            campaign.settle(SETTLING)
            campaign.end()
            reached = {" ".join(words) for words in fleet.fault_lines("hit")}
            verdict = campaign.verdict(least=0.1)
            assert verdict == Verdict(), repr(verdict)
            every = {f"{point}.{when}" for point, when in deaths}
            assert reached - every == set(), "written, and not to be seen in the source"
            assert not LONG or every - reached == set(), "never written"
            figures.fact("writes known", str(len(deaths)))
    finally:
        figures.record(record_property)


def test_the_writes_at_which_a_campaign_fails_somebody_are_known() -> None:
    assert {*AT_A_NODE, *AT_THE_HUB} - faulty.points() == set()


def _wait_for_the_last(fleet: FleetOfProcesses) -> None:
    """A command whose supervisor was killed goes on, as it says; the longest lasts fifteen seconds."""
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not fleet.left(), "nobody is left", within=40)
