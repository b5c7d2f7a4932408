"""Campaign 1: everything that can go wrong, in any order, and after each step and at the end every promise holds.

NANOEXEC_CHAOS=long        thousands of examples instead of hundreds
NANOEXEC_CHAOS_EXAMPLES=NUMBER  so many in each part
NANOEXEC_CHAOS_SEED=NUMBER replays a campaign
NANOEXEC_CHAOS_SHRINK=1    looks for a shorter example when one fails, for minutes
"""

import os
from collections.abc import Callable
from random import SystemRandom
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.chaos.fleet import Fleet
from tests.chaos.happened import Happened

LONG: Final = os.environ.get("NANOEXEC_CHAOS") == "long"
PARTS: Final = 2  # of a campaign: each can have a processor of its own
EXAMPLES: Final = int(os.environ.get("NANOEXEC_CHAOS_EXAMPLES", "2500" if LONG else "100"))  # in each part
STEPS: Final = 50
SHRINK: Final = os.environ.get("NANOEXEC_CHAOS_SHRINK") == "1"
SEED: Final = int(os.environ.get("NANOEXEC_CHAOS_SEED", "0")) or SystemRandom().randrange(1, 10**9)


@pytest.mark.timeout(4 * 3600 if LONG or SHRINK else 1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_is_lost_or_doubled_whatever_happens(part: int, record_property: Callable[[str, Any], None]) -> None:
    Fleet.figures = Happened(f"model, part {part + 1} of {PARTS}", seed=f"{SEED} (again: NANOEXEC_CHAOS_SEED={SEED})")
    how = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink) if SHRINK else (Phase.generate,),
        report_multiple_bugs=False,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(seed(SEED + part)(Fleet), settings=how)
    finally:
        print(f"to replay: NANOEXEC_CHAOS_SEED={SEED} NANOEXEC_CHAOS_EXAMPLES={EXAMPLES}")  # noqa: T201 - if it failed
        Fleet.figures.record(record_property)
    missing = Fleet.figures.missing(Fleet.all_that_happens())
    assert not missing, f"has not happened: {missing}"
