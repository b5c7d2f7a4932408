"""How far apart the slots of schedules are at most: what a node tells the hub to be judged by."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoexec.schedule import DAY, HOUR, MINUTE, Schedule, longest_gap

pytestmark = pytest.mark.node

NOW = 1_790_000_000.0  # a Monday in 2026


def gap(*expressions: str) -> int | None:
    return longest_gap([Schedule.parse(expression) for expression in expressions], NOW)


@pytest.mark.parametrize(
    ("expression", "longest"),
    [
        ("* * * * *", MINUTE),
        ("17 * * * *", HOUR),
        ("@hourly", HOUR),
        ("0,10 * * * *", 50 * MINUTE),
        ("*/5 8-17 * * *", 14 * HOUR + 5 * MINUTE),
        ("0 3 * * *", DAY),
        ("0 3 * * 1-5", 3 * DAY),
        ("30 2 1 * *", 31 * DAY),
        ("@yearly", 366 * DAY),
        ("0 0 29 2 *", 1461 * DAY),
        ("* * 1 * *", 30 * DAY + MINUTE),
    ],
)
def test_it_is_the_longest_wait_that_the_expression_ever_has(expression: str, longest: int) -> None:
    assert gap(expression) == longest


def test_several_lines_of_one_action_fill_each_others_gaps() -> None:
    assert gap("0 3 * * *", "0 15 * * *") == 12 * HOUR
    assert gap("0 3 * * *", "0 3 * * *") == DAY
    assert gap("0 3 * * 1-5", "0 4 * * 6,7") == DAY + HOUR


@pytest.mark.parametrize("expressions", [(), ("@reboot",), ("0 0 30 2 *",)])
def test_without_two_slots_there_is_no_gap(expressions: tuple[str, ...]) -> None:
    assert gap(*expressions) is None


def test_a_line_without_slots_does_not_hide_those_of_another() -> None:
    assert gap("@reboot", "17 * * * *") == HOUR


NUMBERS = st.sampled_from(["*", "*/7", "3", "1,5", "2-4"])


@given(st.lists(st.tuples(NUMBERS, NUMBERS, st.sampled_from(["*", "1,11,21", "5-9"]), NUMBERS), min_size=1, max_size=2))
def test_no_slot_ever_comes_later_than_it_says(fields: list[tuple[str, ...]]) -> None:
    schedules = [Schedule.parse(f"{minute} {hour} {day} * {weekday}") for minute, hour, day, weekday in fields]
    longest = longest_gap(schedules, NOW)
    assert longest
    at, seen = NOW, []
    for _ in range(200):
        at = min(slot for one in schedules if (slot := one.next(at, lambda _instant: 0)) is not None)
        seen.append(at)
    assert max(later - earlier for earlier, later in pairwise(seen)) <= longest
