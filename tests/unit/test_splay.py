"""Where in its period an action runs on a node, and the expression for it."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoexec.errors import UsageError
from nanoexec.schedule import DAY, HOUR, MINUTE, WEEK, Schedule, every, splay

pytestmark = pytest.mark.node


def utc(_: float) -> int:
    return 0


def test_the_splay_of_a_node_and_action_never_changes() -> None:
    assert splay("web1.example.org", "slaughter", HOUR) == 707
    assert splay("web2.example.org", "slaughter", HOUR) == 873
    assert splay("web1.example.org", "puppet", HOUR) == 2832
    assert splay("web1.example.org", "slaughter", DAY) == 16991


def test_the_splay_is_spread_evenly_over_the_nodes() -> None:
    buckets = [0] * 60
    for number in range(6000):
        buckets[splay(f"node{number}", "slaughter", HOUR) // MINUTE] += 1
    # Chi-squared with 59 degrees of freedom: 104 is exceeded by chance once in 4000 draws, and this draw is fixed.
    assert sum((count - 100) ** 2 / 100 for count in buckets) < 104


@given(st.text(), st.text(), st.integers(1, WEEK))
def test_the_splay_is_within_the_period(node: str, action: str, period: int) -> None:
    assert 0 <= splay(node, action, period) < period


PERIODS = [
    *(minutes * MINUTE for minutes in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60)),
    *(hours * HOUR for hours in (2, 3, 4, 6, 8, 12, 24)),
    WEEK,
]


@given(period=st.sampled_from(PERIODS), share=st.floats(0, 1, exclude_max=True))
def test_a_period_and_an_offset_make_an_expression_that_fires_just_so(period: int, share: float) -> None:
    offset = int(period * share)
    sunday = int(datetime(2026, 11, 22, tzinfo=UTC).timestamp())
    expected = [sunday + offset // MINUTE * MINUTE + number * period for number in range(3)]
    schedule = Schedule.parse(every(period, offset))
    assert [schedule.next(before, utc) for before in (expected[0] - 1, *expected[:2])] == expected


@pytest.mark.parametrize("period", [0, -HOUR, 30, 90, 7 * MINUTE, 90 * MINUTE, 5 * HOUR, 2 * DAY, 2 * WEEK])
def test_a_period_that_no_expression_has_is_refused(period: int) -> None:
    with pytest.raises(UsageError, match="cron cannot fire each"):
        every(period, 0)
