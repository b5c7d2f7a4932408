"""Cron expressions to draw, and a model of the clock by which cron(8) fires them."""

import time

from hypothesis import assume
from hypothesis import strategies as st

from nanoexec.schedule import MINUTE, Zone

Drawn = tuple[str, frozenset[int]]
Values = tuple[frozenset[int], ...]


@st.composite
def field(draw: st.DrawFn, low: int, high: int, names: str = "", *, plain: bool, stars: bool = True) -> Drawn:
    """A field of an expression with the values it stands for, written down beside it."""

    def text(value: int) -> str:
        known = names.split()
        return draw(st.sampled_from([str(value), f"{value:02}", *known[value - low : value - low + 1]]))

    words, values = [], set()
    for _ in range(draw(st.integers(1, 3))):
        first, last = sorted((draw(st.integers(low, high)), draw(st.integers(low, high))))
        step = draw(st.integers(1, high if plain else high + 1))
        shapes = [(text(first), {first})]
        if first < last or not plain:
            shapes.append((f"{text(first)}-{text(last)}", set(range(first, last + 1))))
            shapes.append((f"{text(first)}-{text(last)}/{step}", set(range(first, last + 1, step))))
        if stars:
            shapes += [("*", set(range(low, high + 1))), (f"*/{step}", set(range(low, high + 1, step)))]
        word, meant = draw(st.sampled_from(shapes))
        words.append(word)
        values |= meant
    return ",".join(words), frozenset(values)


@st.composite
def expression(draw: st.DrawFn, *, plain: bool = False) -> tuple[str, Values]:
    """Five fields and their values. Plain: without what the libraries read in another way than cron, see below."""
    which = draw(st.sampled_from(["both", "month", "week"])) if plain else "any"
    parts = [
        draw(field(0, 59, plain=plain)),
        draw(field(0, 23, plain=plain)),
        ("*", frozenset(range(1, 32))) if which == "week" else draw(field(1, 31, plain=plain, stars=not plain)),
        draw(field(1, 12, "jan feb mar apr may jun jul aug sep oct nov dec", plain=plain)),
        ("*", frozenset(range(8)))
        if which == "month"
        else draw(field(0, 7, "sun mon tue wed thu fri sat", plain=plain, stars=not plain)),
    ]
    whole = len(parts[2][1]) == 31, len({value % 7 for value in parts[4][1]}) == 7
    assume(which != "both" or not any(whole))
    return " ".join(text for text, _ in parts), tuple(values for _, values in parts)


def cron(fields: str, values: Values, zone: Zone, start: int, end: int) -> list[int]:
    """The instants after ``start``, up to ``end``, at which cron(8) fires: its minutes, one by one, on two clocks.

    One clock is the wall's. The other counts what has been done; it never goes back, except after a jump of more than
    three hours. A daemon awake each minute, whose jobs take no time.
    """
    minutes, hours, days, months, weekdays = values
    minute, hour, day, _, weekday = (word.startswith("*") for word in fields.split())
    rhythm = minute or hour

    def matches(wall: int) -> bool:
        date = time.gmtime(wall * MINUTE)
        if date.tm_min not in minutes or date.tm_hour not in hours or date.tm_mon not in months:
            return False
        by_date, by_weekday = date.tm_mday in days, bool(weekdays & {(date.tm_wday + 1) % 7, date.tm_wday + 1})
        return (by_date and by_weekday) if day or weekday else (by_date or by_weekday)

    fired = set()
    done = (start + zone(start)) // MINUTE
    for instant in range(start + MINUTE, end + 1, MINUTE):
        wall = (instant + zone(instant)) // MINUTE
        ahead = wall - done
        if -180 < ahead <= 0:
            due = matches(wall) and rhythm
        elif 5 < ahead <= 180:
            due = matches(wall) if rhythm else any(matches(skipped) for skipped in range(done + 1, wall + 1))
            done = wall
        else:
            due = matches(wall)
            done = wall
        if due:
            fired.add(instant)
    return sorted(fired)
