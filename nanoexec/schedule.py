"""When a crontab line fires: the slots of its expression, as Debian's cron and cronie keep them.

Theory
------
A schedule names minutes of a wall clock. `Schedule._before` and `Schedule._after` walk that clock and know nothing of
time zones. `Schedule.previous` and `Schedule.next` put it onto real time, one stretch of constant offset after the
other, with cron's rule for a change of at most three hours (cron(8), "daylight savings"):

=============================  =====================================  ==================================
the clock                      a fixed time, ``30 2 * * *``           ``*`` leads the minute or the hour
=============================  =====================================  ==================================
skips 02:00-03:00              fires at the change, once here         follows the clock: 02:xx is not
repeats 02:00-03:00            fires in the first of the two          follows the clock: fires in both
changes by more                follows the clock                      follows the clock
=============================  =====================================  ==================================

Where cron starts a job once for each skipped minute that matches, there is one slot: they are the same moment. Under
``CRON_TZ`` (cronie's; Debian's cron has none) cronie misses or doubles fixed times at a change of that zone, as its
source says. The same table holds here: at worst a fallback then runs that could have been spared.

If day of month and day of week are both restricted, either suffices; a field that begins with ``*`` is not a
restriction, even ``*/2``. A value that cron draws at random when it reads the file (``5~40``, cronie) counts as the
lowest that it can be; Debian's cron reads past the ``~`` and takes that one.

What an expression means is cross-checked with croniter and python-crontab in the tests. They are not used here:
``nanoexec-run --scheduled`` computes a slot each time that cron starts it, importing either takes longer than all of
that may (three starts of a bare interpreter), and neither has cron's table above. For the same reason this module
imports neither msgspec nor typing, and `Schedule` is not a `nanoexec.model.Value`.
"""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable

from nanoexec.errors import UsageError

Zone = Callable[[float], int]  # seconds east of UTC, at an instant in seconds since the epoch

MINUTE = 60
HOUR = 3600
DAY = 86400
WEEK = 7 * DAY

_REBOOT = "@reboot"
_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    _REBOOT: "* * * * *",  # and no slots: see Schedule
}
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_THURSDAY = 4  # 1970-01-01
_SEARCHED = 41 * 366  # days: a leap day that is a Sunday comes every 28 years, and once in 40 around 2100
_LARGE = 3 * HOUR  # from here on a change of the clock is a correction, and cron does not make up for it
_TWO_LEAP_DAYS = 2 * 1461 + 2  # days in which 29 February comes twice
_DIGITS = 9


class _Field:
    """One of the five fields: its name, its bounds, and the names of its values from the lowest on."""

    __slots__ = ("_high", "_low", "_name", "_names")

    def __init__(self, name: str, low: int, high: int, names: str = "") -> None:
        self._name = name
        self._low = low
        self._high = high
        self._names = names.split()

    def read(self, word: str, where: str) -> frozenset[int]:
        """The values that ``word`` stands for; of those that cron draws, the lowest. Raises `UsageError`."""
        values: set[int] = set()
        for part in word.split(","):
            span, slash, step = part.partition("/")
            first, ranged, last = ("", "*", "") if span == "*" else span.partition("~" if "~" in span else "-")
            if slash and not ranged:
                raise self._fault(where, f"a step needs a range, as in {self._low}-{self._high}/{step}", part)
            open_ended = ranged in {"*", "~"}
            low = self._low if open_ended and not first else self._value(first, where)
            high = self._high if open_ended and not last else self._value(last if ranged else first, where)
            if low > high:
                raise self._fault(where, "a range runs upward (cron would never fire)", part)
            if slash and not (_is_number(step) and int(step)):
                raise self._fault(where, "a step is a whole number above 0", part)
            values.update((low,) if ranged == "~" and not slash else range(low, high + 1, int(step or 1)))
        return frozenset(values)

    def _value(self, text: str, where: str) -> int:
        if text.lower() in self._names:
            return self._names.index(text.lower()) + self._low
        if _is_number(text) and self._low <= int(text) <= self._high:
            return int(text)
        raise self._fault(where, f"expected {self._low} to {self._high}", text)

    def _fault(self, where: str, expected: str, got: str) -> UsageError:
        return UsageError(f"schedule {where!r}: {self._name}: {expected}, got {got!r}")


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, "jan feb mar apr may jun jul aug sep oct nov dec"),
    _Field("day of week", 0, 7, "sun mon tue wed thu fri sat"),
)


class Schedule:
    """A cron expression, read. ``fields`` is its text with single blanks.

    ``reboot`` says that it is ``@reboot``, which has no slots; ``fixed`` that it names times of day rather than a
    rhythm (see the table above); ``random`` that cron draws some of its values itself.
    """

    __slots__ = ("_days", "_either", "_months", "_times", "_weekdays", "fields", "fixed", "random", "reboot")

    def __init__(self, fields: str, words: list[str]) -> None:
        minutes, hours, self._days, self._months, weekdays = (
            field.read(word, fields) for field, word in zip(_FIELDS, words, strict=True)
        )
        minute, hour, day, _, weekday = (word.startswith("*") for word in words)
        self.fields = fields
        self.reboot = fields == _REBOOT
        self.fixed = not (minute or hour)
        self.random = "~" in fields
        self._weekdays = frozenset(value % 7 for value in weekdays)  # Sunday is 0 and 7
        self._either = not (day or weekday)
        impossible = not self._either and all(day > _LONGEST[month - 1] for day in self._days for month in self._months)
        times = (
            () if self.reboot or impossible else (hour * HOUR + minute * MINUTE for hour in hours for minute in minutes)
        )
        self._times = sorted(times)

    @classmethod
    def parse(cls, fields: str) -> "Schedule":
        """The schedule of five fields or a nickname.

        Raises `UsageError` naming the field; also for what one cron or another takes and never fires on or reads past:
        backward ranges, a step without a range, text after a number.
        """
        words = fields.split()
        text = " ".join(words)
        if text.startswith("@"):
            if text not in _NICKNAMES:
                raise UsageError(f"schedule {text!r}: expected one of {', '.join(_NICKNAMES)}")
            words = _NICKNAMES[text].split()
        if len(words) != len(_FIELDS):
            raise UsageError(f"schedule {text!r}: expected five fields or a nickname such as @daily, got {len(words)}")
        return cls(text, words)

    def previous(self, now: float, zone: Zone) -> int | None:
        """The last slot at or before ``now``, in seconds since the epoch. None: there was none in 40 years."""
        at = int(now // 1)
        while (wall := self._before(at + zone(at))) is not None:
            slot = wall - zone(at)
            change = _change(zone, at, min(slot - _LARGE, at))
            if change is None or wall >= self._resumption(change, zone):
                return slot
            if self._made_up(wall, change, zone):
                return change
            at = change - 1
        return None

    def next(self, now: float, zone: Zone) -> int | None:
        """The first slot after ``now``, in seconds since the epoch. None: there is none in 40 years."""
        at = int(now // 1)
        passed = at + zone(at)
        recent = _change(zone, at, at - _LARGE)
        if recent is not None:
            passed = max(passed, self._resumption(recent, zone) - 1)
        while (wall := self._after(passed)) is not None:
            slot = wall - zone(at)
            change = _change(zone, at, slot)
            if change is None:
                return slot
            if self._made_up(wall, change, zone):
                return change
            at, passed = change, self._resumption(change, zone) - 1
        return None

    def on(self, day: int) -> list[int]:
        """The slots of a day, counted from 1970-01-01, in seconds of its wall clock."""
        return self._times if self._falls_on(day) else []

    def _resumption(self, change: int, zone: Zone) -> int:
        """The wall time from which minutes fire after a change: fixed times wait until the repeated ones are over."""
        old, new = change + zone(change - 1), change + zone(change)
        return old if self.fixed and 0 < old - new <= _LARGE else new

    def _made_up(self, wall: int, change: int, zone: Zone) -> bool:
        """Whether ``wall`` is a fixed time that the change skipped, and so fires at the change."""
        old, new = change + zone(change - 1), change + zone(change)
        return self.fixed and old <= wall < new and new - old < _LARGE

    def _before(self, wall: int) -> int | None:
        """The last matching minute at or before a wall time, both as seconds on a clock without offset."""
        day, second = divmod(wall, DAY)
        index = bisect_right(self._times, second)
        if index and self._falls_on(day):
            return day * DAY + self._times[index - 1]
        found = self._search(range(day - 1, day - _SEARCHED, -1))
        return None if found is None else found * DAY + self._times[-1]

    def _after(self, wall: int) -> int | None:
        """The first matching minute after a wall time."""
        day, second = divmod(wall + 1, DAY)
        index = bisect_left(self._times, second)
        if index < len(self._times) and self._falls_on(day):
            return day * DAY + self._times[index]
        found = self._search(range(day + 1, day + _SEARCHED))
        return None if found is None else found * DAY + self._times[0]

    def _search(self, days: range) -> int | None:
        return next(filter(self._falls_on, days), None) if self._times else None

    def _falls_on(self, day: int) -> bool:
        """Whether a day, counted from 1970-01-01, is one of the schedule's."""
        date = time.gmtime(day * DAY)
        if date.tm_mon not in self._months:
            return False
        by_date, by_weekday = date.tm_mday in self._days, (day + _THURSDAY) % 7 in self._weekdays
        return by_date or by_weekday if self._either else by_date and by_weekday


def local(instant: float) -> int:
    """The zone of this machine (TZ, or /etc/localtime), which cron goes by."""
    return time.localtime(instant).tm_gmtoff


def named(name: str) -> Zone:
    """The zone that ``CRON_TZ`` names. Raises `UsageError` if this machine does not know it."""
    from datetime import UTC, datetime  # noqa: PLC0415 - only those who use it wait for it
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - the same

    try:
        info = ZoneInfo(name.removeprefix(":"))
    except (KeyError, ValueError, OSError):  # unknown, not a name, a directory such as "Europe"
        raise UsageError(f"CRON_TZ={name}: expected a time zone of this machine, such as Europe/Berlin") from None

    def zone(instant: float) -> int:
        aware = datetime.fromtimestamp(instant, UTC).astimezone(info)
        return int((aware.replace(tzinfo=UTC) - aware).total_seconds())

    return zone


def splay(node: str, action: str, period: int) -> int:
    """A number of seconds in ``[0, period)``, always the same for a node and action, spread evenly over nodes.

    SHA-256 and whole numbers: every machine and version agrees, as the built-in ``hash`` does not.
    """
    from hashlib import sha256  # noqa: PLC0415 - OpenSSL is 3 ms, and a slot that is due needs no splay

    digest = sha256(f"{node}\n{action}".encode()).digest()
    return int.from_bytes(digest, "big") * period >> (8 * len(digest))


def every(period: int, offset: int) -> str:
    """The expression that fires each ``period`` seconds, ``offset`` seconds (less than a period) into each.

    Raises `UsageError` for a period that no expression has: not a divisor of an hour, a day or a week.
    """
    hour, minute = divmod(offset // MINUTE, 60)
    if period == WEEK:
        return f"{minute} {hour % 24} * * {hour // 24}"
    if period == DAY:
        return f"{minute} {hour} * * *"
    if period == HOUR:
        return f"{minute} * * * *"
    if period > HOUR and period % HOUR == 0 and DAY % period == 0:
        return f"{minute} {hour}-23/{period // HOUR} * * *"
    if period >= MINUTE and period % MINUTE == 0 and HOUR % period == 0:
        return f"{minute}-59/{period // MINUTE} * * * *"
    raise UsageError(
        f"cron cannot fire each {period} s: expected a divisor of an hour or a day, such as 15m or 6h, or 7d"
    )


def longest_gap(schedules: Iterable[Schedule], now: float) -> int | None:
    """The longest time between two slots of all of these together, in seconds. None: there are no two in eight years.

    By the wall clock: a change of it makes one gap an hour longer or shorter.
    """
    several = tuple(schedules)
    days: dict[tuple[bool, ...], list[int]] = {}  # one for each combination of schedules that a day may have
    longest, last = 0, None
    for day in range(int(now // DAY), int(now // DAY) + _TWO_LEAP_DAYS):
        slots = [schedule.on(day) for schedule in several]
        shape = tuple(map(bool, slots))
        if shape not in days:
            days[shape] = _first_gap_last(sorted({slot for some in slots for slot in some}))
        if known := days[shape]:
            first, gap, end = known
            longest = max(longest, gap, 0 if last is None else day * DAY + first - last)
            last = day * DAY + end
    return longest or None


def _first_gap_last(slots: list[int]) -> list[int]:
    """Of a day's slots: the first, the longest gap, the last; nothing of none."""
    gaps = map(int.__sub__, slots[1:], slots)
    return [slots[0], max(gaps, default=0), slots[-1]] if slots else []


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS


def _change(zone: Zone, start: int, end: int) -> int | None:
    """The change of offset nearest to ``start`` on the way to ``end``, in either direction: the first instant after it.

    Looked for by the week: no zone changes twice within one and comes back to where it was.
    """
    offset = zone(start)
    near = start
    while near != end:
        far = min(near + WEEK, end) if end > start else max(near - WEEK, end)
        if zone(far) != offset:
            while abs(far - near) > 1:
                middle = (near + far) // 2
                near, far = (middle, far) if zone(middle) == offset else (near, middle)
            return max(near, far)
        near = far
    return None
