"""When a crontab line fires, against a model of cron's own clock, against croniter and against python-crontab."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nanoexec import schedule
from nanoexec.errors import UsageError
from nanoexec.schedule import DAY, HOUR, MINUTE, Schedule, Zone, local, named
from tests.support.cron_clock import Drawn, Values, cron, expression, field

pytestmark = pytest.mark.node

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
CHANGES = {  # the zone, and the first instant after its clock was changed
    "Berlin skips an hour": (BERLIN, "2026-03-29T01:00Z"),
    "Berlin repeats an hour": (BERLIN, "2026-10-25T01:00Z"),
    "New York skips an hour": (NEW_YORK, "2026-03-08T07:00Z"),
    "New York repeats an hour": (NEW_YORK, "2026-11-01T06:00Z"),
    "Lord Howe skips half an hour": (LORD_HOWE, "2026-10-03T15:30Z"),
    "Lord Howe repeats half an hour": (LORD_HOWE, "2026-04-04T15:00Z"),
    "Havana skips midnight": ("America/Havana", "2026-03-08T05:00Z"),
    "St John's repeats the minute after midnight": ("America/St_Johns", "2010-11-07T02:31Z"),
    "Apia skips a whole day": ("Pacific/Apia", "2011-12-30T10:00Z"),
}


def utc(_: float) -> int:
    return 0


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def slots(fields: str, zone: Zone, start: float, end: float) -> list[int]:
    """The slots after ``start``, up to ``end``: forward, and backward they must be the same."""
    parsed = Schedule.parse(fields)
    forward = list(takewhile(lambda slot: slot <= end, _walk(lambda now: parsed.next(now, zone), start, 0)))
    backward = list(takewhile(lambda slot: slot > start, _walk(lambda now: parsed.previous(now, zone), end, -1)))
    assert backward == forward[::-1]
    return forward


def _walk(step: Callable[[float], int | None], now: float, past: int) -> Iterator[int]:
    while (slot := step(now)) is not None:
        yield slot
        now = slot + past


def shown(instants: list[int]) -> list[str]:
    return [datetime.fromtimestamp(instant, UTC).strftime("%m-%d %H:%M") for instant in instants]


# What an expression means
# ------------------------


@pytest.mark.parametrize(
    ("fields", "now", "previous", "following"),
    [
        ("17 * * * *", "2026-11-22T11:17:01Z", "2026-11-22T11:17Z", "2026-11-22T12:17Z"),
        ("17 * * * *", "2026-11-22T11:17:00Z", "2026-11-22T11:17Z", "2026-11-22T12:17Z"),
        ("17 * * * *", "2026-11-22T11:16:59.9+00:00", "2026-11-22T10:17Z", "2026-11-22T11:17Z"),
        ("* * * * *", "2026-11-22T11:16:59Z", "2026-11-22T11:16Z", "2026-11-22T11:17Z"),
        ("*/20 5-7 * * *", "2026-11-22T07:59Z", "2026-11-22T07:40Z", "2026-11-23T05:00Z"),
        ("5,50-59/3 9 * * *", "2026-11-22T09:57Z", "2026-11-22T09:56Z", "2026-11-22T09:59Z"),
        ("0 0 * * *", "2026-01-01T00:00Z", "2026-01-01T00:00Z", "2026-01-02T00:00Z"),
        ("59 23 31 12 *", "2026-06-01T00:00Z", "2025-12-31T23:59Z", "2026-12-31T23:59Z"),
        ("0 12 * jan,DEC Mon-Fri", "2026-02-01T00:00Z", "2026-01-30T12:00Z", "2026-12-01T12:00Z"),
        ("0 0 29 2 *", "2026-11-22T00:00Z", "2024-02-29T00:00Z", "2028-02-29T00:00Z"),
        ("0 0 29 2 *", "2099-01-01T00:00Z", "2096-02-29T00:00Z", "2104-02-29T00:00Z"),
        ("0 0 29 2 */7", "2080-01-01T00:00Z", "2060-02-29T00:00Z", "2088-02-29T00:00Z"),  # only if it is a Sunday
        ("0 0 29 2 */7", "2100-01-01T00:00Z", "2088-02-29T00:00Z", "2128-02-29T00:00Z"),
        ("0 0 31 * *", "2026-11-22T00:00Z", "2026-10-31T00:00Z", "2026-12-31T00:00Z"),
        ("0 0 * * 0", "2026-11-22T00:00Z", "2026-11-22T00:00Z", "2026-11-29T00:00Z"),
        ("0 0 * * 7", "2026-11-22T00:00Z", "2026-11-22T00:00Z", "2026-11-29T00:00Z"),
        ("0 0 * * 5-7", "2026-11-23T00:00Z", "2026-11-22T00:00Z", "2026-11-27T00:00Z"),
        ("0 0 13 * fri", "2026-11-14T00:00Z", "2026-11-13T00:00Z", "2026-11-20T00:00Z"),  # either suffices
        ("0 0 13 * fri", "2026-12-12T00:00Z", "2026-12-11T00:00Z", "2026-12-13T00:00Z"),
        ("0 0 */2 * mon", "2026-11-22T00:00Z", "2026-11-09T00:00Z", "2026-11-23T00:00Z"),  # both must hold
        ("0 0 13 * */5", "2026-11-22T00:00Z", "2026-11-13T00:00Z", "2026-12-13T00:00Z"),  # a Friday, a Sunday
        ("@hourly", "2026-11-22T11:17Z", "2026-11-22T11:00Z", "2026-11-22T12:00Z"),
        ("@daily", "2026-11-22T11:17Z", "2026-11-22T00:00Z", "2026-11-23T00:00Z"),
        ("@midnight", "2026-11-22T11:17Z", "2026-11-22T00:00Z", "2026-11-23T00:00Z"),
        ("@weekly", "2026-11-24T11:17Z", "2026-11-22T00:00Z", "2026-11-29T00:00Z"),
        ("@monthly", "2026-11-22T11:17Z", "2026-11-01T00:00Z", "2026-12-01T00:00Z"),
        ("@yearly", "2026-11-22T11:17Z", "2026-01-01T00:00Z", "2027-01-01T00:00Z"),
        ("@annually", "2026-11-22T11:17Z", "2026-01-01T00:00Z", "2027-01-01T00:00Z"),
        (" 17\t*  * * * ", "2026-11-22T11:17Z", "2026-11-22T11:17Z", "2026-11-22T12:17Z"),
        ("17 * * * *", "1969-12-31T23:30Z", "1969-12-31T23:17Z", "1970-01-01T00:17Z"),
    ],
)
def test_a_schedule_has_these_slots_around_a_moment(fields: str, now: str, previous: str, following: str) -> None:
    parsed = Schedule.parse(fields)
    assert parsed.previous(at(now), utc) == at(previous)
    assert parsed.next(at(now), utc) == at(following)


class Counting(Schedule):
    """Counts the days it has looked at."""

    __slots__ = ("looked_at",)

    def _falls_on(self, day: int) -> bool:
        self.looked_at = getattr(self, "looked_at", 0) + 1
        return super()._falls_on(day)


@pytest.mark.parametrize("fields", ["0 0 30 2 *", "0 0 31 feb,apr,jun,sep,nov *", "@reboot"])
def test_a_schedule_that_never_fires_has_no_slot_and_says_so_without_a_search(fields: str) -> None:
    parsed = Counting.parse(fields)
    assert parsed.previous(at("2026-11-22T00:00Z"), utc) is None
    assert parsed.next(at("2026-11-22T00:00Z"), utc) is None
    assert not hasattr(parsed, "looked_at")


def test_an_impossible_date_beside_a_weekday_still_fires_on_the_weekday() -> None:
    assert Schedule.parse("0 0 30 2 mon").next(at("2026-11-22T00:00Z"), utc) == at("2027-02-01T00:00Z")


def test_only_reboot_is_reboot() -> None:
    assert [Schedule.parse(nickname).reboot for nickname in ("@reboot", "@daily")] == [True, False]


@pytest.mark.parametrize(
    ("drawn", "lowest"),
    [
        ("5~40 * * * *", "5 * * * *"),
        ("~ * * * *", "0 * * * *"),
        ("~30 * * * *", "0 * * * *"),
        ("30~ * * * *", "30 * * * *"),
        ("~/20 * * * *", "0-59/20 * * * *"),
        ("10~50/20 3 * * *", "10-50/20 3 * * *"),
        ("0 0 ~ * *", "0 0 1 * *"),
    ],
)
def test_a_value_that_cron_draws_counts_as_the_lowest_it_can_be(drawn: str, lowest: str) -> None:
    now = at("2026-11-22T11:17Z")
    assert Schedule.parse(drawn).random
    assert not Schedule.parse(lowest).random
    assert Schedule.parse(drawn).previous(now, utc) == Schedule.parse(lowest).previous(now, utc)
    assert Schedule.parse(drawn).next(now, utc) == Schedule.parse(lowest).next(now, utc)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ("", "expected five fields"),
        ("* * * *", "expected five fields or a nickname such as @daily, got 4"),
        ("* * * * * *", "got 6"),
        ("60 * * * *", "minute: expected 0 to 59, got '60'"),
        ("* 24 * * *", "hour: expected 0 to 23, got '24'"),
        ("* * 0 * *", "day of month: expected 1 to 31, got '0'"),
        ("* * * 13 *", "month: expected 1 to 12, got '13'"),
        ("* * * * 8", "day of week: expected 0 to 7, got '8'"),
        ("* * * 0 *", "month"),
        ("jan * * * *", "minute: expected 0 to 59, got 'jan'"),
        ("* * * january *", "month"),
        ("5-1 * * * *", "a range runs upward"),
        ("* * * * fri-sun", "a range runs upward"),  # cron reads sun as 0 here, and never fires
        ("50~10 * * * *", "a range runs upward"),
        ("5/10 * * * *", "minute: a step needs a range, as in 0-59/10, got '5/10'"),
        ("*/0 * * * *", "a step is a whole number above 0, got '*/0'"),
        ("*/ * * * *", "a step"),
        ("*/-5 * * * *", "a step"),
        ("* * * */jan *", "a step"),
        ("*/5/5 * * * *", "a step"),
        ("1,,2 * * * *", "got ''"),
        ("1- * * * *", "got ''"),
        ("-5 * * * *", "got ''"),
        ("*5 * * * *", "got '*5'"),
        ("*-5 * * * *", "got '*'"),
        ("5x * * * *", "got '5x'"),
        ("² * * * *", "got '²'"),
        ("٣ * * * *", "got"),
        ("L * * * *", "got 'L'"),
        ("* * * * 5#2", "got '5#2'"),
        (f"{'9' * 5000} * * * *", "expected 0 to 59"),
        (f"*/{'9' * 5000} * * * *", "a step"),
        ("@Daily", "expected one of @hourly"),
        ("@every_minute", "expected one of @hourly"),
        ("@daily x", "expected one of @hourly"),
    ],
)
def test_what_cron_does_not_plainly_understand_is_refused_naming_the_field(fields: str, fault: str) -> None:
    with pytest.raises(UsageError) as caught:
        Schedule.parse(fields)
    assert str(caught.value).startswith("schedule ")
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=30) | st.text(alphabet="0123456789*/-,~@ janmon", max_size=30))
def test_any_text_is_a_schedule_or_a_usage_error(text: str) -> None:
    try:
        parsed = Schedule.parse(text)
    except UsageError:
        return
    now = at("2026-11-22T11:17Z")
    previous, following = parsed.previous(now, utc), parsed.next(now, utc)
    assert previous is None or previous <= now
    assert following is None or following > now


# The change of the clock
# -----------------------


@pytest.mark.parametrize(
    ("fields", "change", "fired"),
    [
        ("30 2 * * *", "Berlin skips an hour", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        ("10,50 2 * * *", "Berlin skips an hour", ["03-28 01:10", "03-28 01:50", "03-29 01:00", "03-30 00:10"]),
        ("0 2,3 * * *", "Berlin skips an hour", ["03-28 01:00", "03-28 02:00", "03-29 01:00", "03-30 00:00"]),
        ("0 */2 * * *", "Berlin skips an hour", ["03-28 23:00", "03-29 02:00", "03-29 04:00"]),
        ("30 2 * * *", "Berlin repeats an hour", ["10-24 00:30", "10-25 00:30", "10-26 01:30"]),
        ("30 * * * *", "Berlin repeats an hour", ["10-24 23:30", "10-25 00:30", "10-25 01:30", "10-25 02:30"]),
        ("30 */2 * * *", "Berlin repeats an hour", ["10-24 22:30", "10-25 00:30", "10-25 01:30", "10-25 03:30"]),
        ("30 2 * * *", "New York skips an hour", ["03-07 07:30", "03-08 07:00", "03-09 06:30"]),
        ("30 1 * * *", "New York repeats an hour", ["10-31 05:30", "11-01 05:30", "11-02 06:30"]),
        ("@hourly", "New York repeats an hour", ["11-01 05:00", "11-01 06:00", "11-01 07:00"]),
        ("15 2 * * *", "Lord Howe skips half an hour", ["10-02 15:45", "10-03 15:30", "10-04 15:15"]),
        ("45 1 * * *", "Lord Howe repeats half an hour", ["04-03 14:45", "04-04 14:45", "04-05 15:15"]),
        ("15,45 1-2 * * *", "Lord Howe repeats half an hour", ["04-04 14:15", "04-04 14:45", "04-04 15:45"]),
        ("0 0 * * *", "Havana skips midnight", ["03-07 05:00", "03-08 05:00", "03-09 04:00"]),
        ("0 12 * * *", "Apia skips a whole day", ["12-29 22:00", "12-30 22:00"]),
        ("0 12 30 12 *", "Apia skips a whole day", []),  # a correction of the clock: that day was not
    ],
)
def test_a_changed_clock_is_met_as_cron_meets_it(fields: str, change: str, fired: list[str]) -> None:
    zone, instant = CHANGES[change]
    found = shown(slots(fields, named(zone), at(instant) - 3 * DAY, at(instant) + 3 * DAY))
    first = found.index(fired[0]) if fired else 0
    assert found[first : first + len(fired)] == fired
    assert fired or not found


@pytest.mark.parametrize("change", CHANGES)
@settings(max_examples=15, deadline=None)
@given(drawn=expression())
def test_around_a_real_change_the_slots_are_those_of_crons_clock(change: str, drawn: tuple[str, Values]) -> None:
    name, instant = CHANGES[change]
    zone, middle = named(name), int(at(instant))
    assert zone(middle - 1) != zone(middle)
    start, end = middle - 30 * HOUR, middle + 30 * HOUR
    assert slots(drawn[0], zone, start, end) == cron(*drawn, zone, start, end)


@settings(max_examples=150, deadline=None)
@given(
    drawn=expression(),
    base=st.sampled_from([-10 * HOUR, -12600, 0, 20700, 14 * HOUR]),
    jump=st.sampled_from([-1440, -181, -180, -179, -60, -30, 10, 30, 60, 120, 179, 180, 181, 1440]),
    of_day=st.integers(0, 1439),
)
def test_around_any_change_the_slots_are_those_of_crons_clock(
    drawn: tuple[str, Values], base: int, jump: int, of_day: int
) -> None:
    change = int(at("2028-02-29T00:00Z")) + of_day * MINUTE

    def zone(instant: float) -> int:
        return base if instant < change else base + jump * MINUTE

    start, end = change - 30 * HOUR, change + 30 * HOUR
    assert slots(drawn[0], zone, start, end) == cron(*drawn, zone, start, end)


def jumping(minutes: int) -> Zone:
    """A clock in UTC that at noon of 2026-11-22 is put forward (or back) for good."""
    noon = at("2026-11-22T12:00Z")
    return lambda instant: 0 if instant < noon else minutes * MINUTE


@pytest.mark.parametrize(
    ("jump", "fields", "fired"),
    [
        (179, "30 13 * * *", ["11-21 13:30", "11-22 12:00", "11-23 10:31"]),
        (180, "30 13 * * *", ["11-21 13:30", "11-23 10:30"]),  # a correction: nothing is made up for
        (-180, "30 10 * * *", ["11-22 10:30", "11-23 13:30"]),
        (-181, "30 10 * * *", ["11-22 10:30", "11-22 13:31", "11-23 13:31"]),  # a correction: done again
    ],
)
def test_a_change_of_about_three_hours_is_a_change_of_season_or_a_correction(
    jump: int, fields: str, fired: list[str]
) -> None:
    assert shown(slots(fields, jumping(jump), at("2026-11-21T12:00Z"), at("2026-11-23T14:00Z"))) == fired


def test_in_a_repeated_hour_what_comes_next_is_not_what_has_been() -> None:
    berlin, second_two_oclock = named(BERLIN), at("2026-10-25T01:00Z")
    assert Schedule.parse("30 2 * * *").next(second_two_oclock, berlin) == at("2026-10-26T01:30Z")
    assert Schedule.parse("30 2 * * *").next(second_two_oclock + 900, berlin) == at("2026-10-26T01:30Z")
    assert Schedule.parse("0 3 * * *").next(second_two_oclock, berlin) == at("2026-10-25T02:00Z")
    assert Schedule.parse("30 * * * *").next(second_two_oclock, berlin) == at("2026-10-25T01:30Z")


def test_a_slot_is_found_beyond_many_changes() -> None:
    assert slots("0 12 29 2 *", named(BERLIN), at("2019-01-01T00:00Z"), at("2029-01-01T00:00Z")) == [
        at("2020-02-29T12:00+01:00"),
        at("2024-02-29T12:00+01:00"),
        at("2028-02-29T12:00+01:00"),
    ]
    assert slots("0 12 1 7 *", named(BERLIN), at("2025-01-01T00:00Z"), at("2027-01-01T00:00Z")) == [
        at("2025-07-01T12:00+02:00"),
        at("2026-07-01T12:00+02:00"),
    ]


# Zones
# -----


@pytest.fixture
def machine_in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


def test_the_zone_of_the_machine_is_the_local_one(machine_in_berlin: None) -> None:
    for change in ("Berlin skips an hour", "Berlin repeats an hour"):
        start, end = at(CHANGES[change][1]) - 2 * DAY, at(CHANGES[change][1]) + 2 * DAY
        for fields in ("30 2 * * *", "*/15 * * * *"):
            assert slots(fields, local, start, end) == slots(fields, named(BERLIN), start, end)


@pytest.mark.parametrize("name", [BERLIN, f":{BERLIN}"])
def test_cron_tz_names_a_zone(name: str) -> None:
    assert named(name)(at("2026-01-01T00:00Z")) == HOUR
    assert named(name)(at("2026-07-01T00:00Z")) == 2 * HOUR
    assert named("America/St_Johns")(at("2026-01-01T00:00Z")) == -12600


@pytest.mark.parametrize(
    "name", ["", "Europe", "Europe/Nowhere", "/etc/passwd", "../../etc/passwd", "a\0b", "CET-1CEST"]
)
def test_an_unknown_zone_is_one_clear_line(name: str) -> None:
    with pytest.raises(
        UsageError, match=r"\ACRON_TZ=.*: expected a time zone of this machine, such as Europe/Berlin\Z"
    ):
        named(name)


# The two libraries
# -----------------
# Both read an expression on their own terms, so these are left out here, and held to cron's clock above:
#  - changes of the clock: croniter never makes up for a skipped time, python-crontab asks croniter. All is in UTC.
#  - a day field that begins with `*`, such as `*/2`, beside a restricted one: cron wants both, croniter either.
#  - a day field that names every day, such as `0-6`, beside a restricted one: old croniter takes it for `*`.
#  - a range of one value, `5-5`: croniter takes it for `*`.
#  - backward ranges: croniter goes round the end, cron never fires.
#  - python-crontab takes no step that is larger than the field, and no range from a name to a number.


@settings(max_examples=700, deadline=None)
@given(drawn=expression(plain=True), now=st.integers(0, 4_000_000_000))
def test_the_slots_are_those_of_croniter(drawn: tuple[str, Values], now: int) -> None:
    croniter = pytest.importorskip("croniter")  # from 6 on: 1.3.5 forgets leap days going backward
    parsed = Schedule.parse(drawn[0])
    following = parsed.next(now, utc)
    assume(following is not None and abs(following - now) < 20 * 366 * DAY)  # croniter gives up on far ones
    previous = parsed.previous(now - 1, utc)
    assert croniter.croniter(drawn[0], now).get_next() == following
    assert croniter.croniter(drawn[0], now).get_prev() == previous


@settings(max_examples=300, deadline=None)
@given(minute=field(0, 59, plain=True), hour=field(0, 23, plain=True))
def test_a_day_has_as_many_slots_as_python_crontab_counts(minute: Drawn, hour: Drawn) -> None:
    crontab = pytest.importorskip("crontab")
    fields = f"{minute[0]} {hour[0]} * * *"
    assert len(slots(fields, utc, -1, DAY - 1)) == crontab.CronSlices(fields).frequency_per_day()


@settings(max_examples=100, deadline=None)
@given(day=field(1, 31, plain=True), month=field(1, 12, plain=True))
def test_a_year_has_as_many_slots_as_python_crontab_counts(day: Drawn, month: Drawn) -> None:
    crontab = pytest.importorskip("crontab")
    fields = f"0 0 {day[0]} {month[0]} *"
    found = slots(fields, utc, at("2028-01-01T00:00Z") - 1, at("2029-01-01T00:00Z") - 1)
    assert len(found) == crontab.CronSlices(fields).frequency_per_year(2028)


def test_a_skip_does_not_wait_for_imports_that_it_can_do_without() -> None:
    heavy = {"msgspec", "typing", "re", "dataclasses", "datetime", "zoneinfo", "hashlib", "croniter", "crontab"}
    source = str(Path(schedule.__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {source!r}); import nanoexec.fallback; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
