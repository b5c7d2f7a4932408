"""Whether a scheduled run is still needed: the whole table of `nanoexec.fallback`, and a life of slots."""

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoexec.fallback import AHEAD, Interval, Past, Policy, decide, interval, satisfied
from nanoexec.model import Cause, Outcome
from nanoexec.schedule import DAY, HOUR, MINUTE, Schedule, named

pytestmark = pytest.mark.node

HOURLY = Schedule.parse("17 * * * *")
DAY_0 = datetime(2026, 11, 22, tzinfo=UTC).timestamp()


def utc(_: float) -> int:
    return 0


def clock(text: str) -> float:
    hour, minute, second = (float(part) for part in f"{text}:0:0".split(":")[:3])
    return DAY_0 + hour * HOUR + minute * MINUTE + second


NOW = clock("11:17:01")
SILENCE = 300.0


def past(
    started: str | None,
    cause: Cause = Cause.TRIGGER,
    outcome: Outcome | None = Outcome.SUCCEEDED,
    *,
    shared: str | None = None,
    arguments: str = "{}",
) -> Past:
    return Past(None if started is None else clock(started), cause, outcome, shared, arguments)


def runs_at(now: float, *runs: Past, schedule: Schedule = HOURLY, policy: Policy = Policy.UNSATISFIED) -> bool:
    return decide(policy, interval(schedule, now, utc), runs, now=now, heard=None, silence=SILENCE).run


@pytest.mark.parametrize(
    "spared_by",
    [
        past("10:40"),
        past("10:40", Cause.LOCAL),
        past("10:17:00"),
        past("11:16:59.9"),
        past("11:17:00.5"),  # a trigger that came just before cron
        past("11:17:05.9"),  # the clock was put back a little in between
    ],
)
def test_a_success_that_came_another_way_since_the_slot_before_spares_the_slot(spared_by: Past) -> None:
    assert not runs_at(NOW, spared_by)
    assert not runs_at(NOW, past("09:00"), spared_by, past("10:50", outcome=Outcome.FAILED))


@pytest.mark.parametrize(
    "not_enough",
    [
        past("10:16:59.9"),
        past("09:30"),
        past("10:40", outcome=None),
        *(past("10:40", outcome=outcome) for outcome in Outcome if outcome is not Outcome.SUCCEEDED),
        past("10:40", arguments='{"noop":"true"}'),
        past("10:40", shared="0123456789abcdef"),
        past(None),
        past("10:17:01", Cause.SCHEDULE),
        past("10:40", Cause.SCHEDULE),
        past("10:17:01", Cause.SCHEDULE, Outcome.SKIPPED),
        past("11:17:06.5"),
        past("23:59"),
    ],
)
def test_anything_else_does_not_spare_the_slot(not_enough: Past) -> None:
    assert runs_at(NOW, not_enough)


def test_without_any_run_the_slot_runs() -> None:
    assert runs_at(NOW)


@pytest.mark.parametrize("late", [0.0, 1.0, 20.0, 59.0, 30 * MINUTE, HOUR - AHEAD - 1])
def test_however_late_cron_starts_the_job_its_interval_begins_at_the_slot_before(late: float) -> None:
    current = interval(HOURLY, clock("11:17") + late, utc)
    assert current
    assert current.since == clock("10:17")


def test_a_clock_put_back_a_little_does_not_make_it_the_slot_before() -> None:
    current = interval(HOURLY, clock("11:16:58"), utc)
    assert current
    assert current.since == clock("10:17")


def test_a_job_so_late_that_the_next_slot_has_come_has_the_shorter_interval() -> None:
    every_minute = Schedule.parse("* * * * *")
    assert runs_at(clock("11:18:10"), past("11:16:30"), schedule=every_minute)
    assert not runs_at(clock("11:17:40"), past("11:16:30"), schedule=every_minute)


def test_after_the_clock_went_back_runs_of_the_future_do_not_count_and_earlier_ones_do() -> None:
    future = past("12:30")
    assert runs_at(NOW, future)
    assert not runs_at(NOW, future, past("10:40"))


def test_two_lines_of_one_action_both_run() -> None:
    morning, afternoon = Schedule.parse("0 3 * * *"), Schedule.parse("0 15 * * *")
    assert runs_at(clock("15:00:01"), past("03:00:01", Cause.SCHEDULE), schedule=afternoon)
    assert not runs_at(clock("15:00:01"), past("04:00"), schedule=afternoon)
    assert not runs_at(clock("03:00:01") + DAY, past("04:00"), schedule=morning)


def test_a_repeated_hour_has_one_interval_for_a_fixed_time() -> None:
    berlin, nightly = named("Europe/Berlin"), Schedule.parse("30 2 * * *")
    first = datetime(2026, 10, 25, 0, 30, 1, tzinfo=UTC).timestamp()
    following = datetime(2026, 10, 26, 1, 30, 1, tzinfo=UTC).timestamp()
    current = interval(nightly, following, berlin)
    assert current
    assert current.since == first - 1


def test_skipped_times_that_are_made_up_for_share_the_interval_of_the_day_before() -> None:
    berlin, nightly = named("Europe/Berlin"), Schedule.parse("10,50 2 * * *")
    current = interval(nightly, datetime(2026, 3, 29, 1, 0, 11, tzinfo=UTC).timestamp(), berlin)
    assert current
    assert current.since == datetime(2026, 3, 28, 1, 50, tzinfo=UTC).timestamp()


def test_where_cron_draws_the_minute_the_slot_before_is_as_long_ago_as_slots_are_apart() -> None:
    drawn = Schedule.parse("0~59 * * * *")
    assert runs_at(clock("11:37:01"), past("10:37:00"), schedule=drawn)
    assert not runs_at(clock("11:37:01"), past("10:37:02"), schedule=drawn)


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("fields", ["@reboot", "0 0 30 2 *"])
def test_a_line_without_a_slot_before_always_runs(policy: Policy, fields: str) -> None:
    assert runs_at(NOW, past("11:00"), schedule=Schedule.parse(fields), policy=policy)


SATISFIED, UNSATISFIED = (past("10:40"),), ()
NEVER_HEARD, LATELY, LONG_AGO, FUTURE = None, NOW - 10, NOW - SILENCE, NOW + HOUR


@pytest.mark.parametrize(
    ("policy", "runs", "heard", "run", "reason"),
    [
        (Policy.UNSATISFIED, SATISFIED, LATELY, False, "satisfied: a run that succeeded has started at"),
        (Policy.UNSATISFIED, SATISFIED, NEVER_HEARD, False, "satisfied: a run that succeeded has started at"),
        (Policy.UNSATISFIED, UNSATISFIED, LATELY, True, "unsatisfied: no run that succeeded has started since"),
        (Policy.UNSATISFIED, UNSATISFIED, NEVER_HEARD, True, "unsatisfied: no run that succeeded has started since"),
        (Policy.HUB_SILENT, SATISFIED, LATELY, False, "satisfied: a run that succeeded has started at"),
        (Policy.HUB_SILENT, SATISFIED, LONG_AGO, False, "satisfied: a run that succeeded has started at"),
        (Policy.HUB_SILENT, UNSATISFIED, LATELY, False, "policy hub-silent: the hub was heard at 2026-11-22 11:16:51Z"),
        (Policy.HUB_SILENT, UNSATISFIED, LONG_AGO + 0.1, False, "policy hub-silent: the hub was heard at"),
        (Policy.HUB_SILENT, UNSATISFIED, LONG_AGO, True, "unsatisfied: "),
        (Policy.HUB_SILENT, UNSATISFIED, NEVER_HEARD, True, "unsatisfied: "),
        (Policy.HUB_SILENT, UNSATISFIED, NOW + AHEAD, False, "policy hub-silent: the hub was heard at"),
        (Policy.HUB_SILENT, UNSATISFIED, FUTURE, True, "unsatisfied: "),
        (Policy.ALWAYS, SATISFIED, LATELY, True, "policy always"),
        (Policy.ALWAYS, UNSATISFIED, LONG_AGO, True, "policy always"),
        (Policy.NEVER, SATISFIED, LATELY, False, "policy never"),
        (Policy.NEVER, UNSATISFIED, LONG_AGO, False, "policy never"),
    ],
)
def test_each_policy_decides_so_and_says_why(
    policy: Policy, runs: tuple[Past, ...], heard: float | None, *, run: bool, reason: str
) -> None:
    decision = decide(policy, interval(HOURLY, NOW, utc), runs, now=NOW, heard=heard, silence=SILENCE)
    assert decision.run is run
    assert decision.reason.startswith(reason)
    assert "\n" not in decision.reason


def test_reasons_name_the_moments_in_utc() -> None:
    current = interval(HOURLY, NOW, utc)
    skip = decide(Policy.UNSATISFIED, current, [past("10:40")], now=NOW, heard=None, silence=SILENCE)
    run = decide(Policy.UNSATISFIED, current, [], now=NOW, heard=None, silence=SILENCE)
    assert skip.reason == "satisfied: a run that succeeded has started at 2026-11-22 10:40:00Z"
    assert run.reason == "unsatisfied: no run that succeeded has started since 2026-11-22 10:17:00Z"


def test_the_latest_run_that_satisfies_is_the_one_that_is_named() -> None:
    current = Interval(clock("10:17"), clock("11:17"))
    assert satisfied(current, [past("10:20"), past("10:50"), past("10:30")]) == clock("10:50")


@given(seed=st.integers(0, 2**32), fields=st.sampled_from(["17 * * * *", "*/5 * * * *", "0 */6 * * *", "30 2 * * *"]))
def test_a_slot_is_skipped_exactly_when_a_trigger_came_since_the_one_before(seed: int, fields: str) -> None:
    dice = random.Random(seed)  # noqa: S311 - a life of slots, not a secret
    schedule = Schedule.parse(fields)
    journal: list[Past] = []
    before = schedule.previous(DAY_0, utc)
    for _ in range(30):
        slot = schedule.next(before or 0, utc)
        assert slot is not None
        assert before is not None
        triggered = sorted(dice.uniform(before, slot) for _ in range(dice.choice([0, 0, 1, 3])))
        journal += [Past(started, Cause.TRIGGER, Outcome.SUCCEEDED, None, "{}") for started in triggered]
        now = slot + dice.uniform(0, 50)
        decision = decide(
            Policy.UNSATISFIED, interval(schedule, now, utc), journal, now=now, heard=now, silence=SILENCE
        )
        assert decision.run is (not triggered)
        if decision.run:  # it may have to wait for the lock before it starts
            journal.append(Past(now + dice.choice([0, 100, 250]), Cause.SCHEDULE, Outcome.SUCCEEDED, None, "{}"))
        before = slot
