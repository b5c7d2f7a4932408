"""Durations as people write and read them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoexec.duration import format_duration, parse_duration
from nanoexec.errors import UsageError

pytestmark = pytest.mark.node


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("0.5", 0.5),
        ("30s", 30.0),
        ("15m", 900.0),
        ("1h30m", 5400.0),
        ("7d", 604800.0),
        ("1w", 604800.0),
        ("1.5h", 5400.0),
        ("1d1h1m1s", 90061.0),
    ],
)
def test_what_people_write_is_understood(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "m", "1 h", "1h ", "-1", "-1h", "1y", "1H", "1h30", "h1", "1..5h", "1e3", "nan", "inf", "1\n"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration: write a number with s, m, h, d or w, such as 30m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0", "0s", "0.000", "3651d", "999999999w"])
def test_nothing_and_for_ever_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="must be above zero and at most ten years"):
        parse_duration(text)


@settings(deadline=None)
@given(st.text(max_size=12))
def test_any_text_gives_a_duration_within_bounds_or_a_usage_error(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except UsageError:
        return
    assert 0 < seconds <= 10 * 365 * 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0ms"),
        (0.08, "80ms"),
        (1.0, "1s"),
        (12.34, "12.3s"),
        (60.0, "1m"),
        (3900.0, "1h 5m"),
        (3601.0, "1h 1s"),
        (90061.0, "1d 1h"),
        (604800.0, "1w"),
    ],
)
def test_a_duration_is_shown_in_two_units_at_most(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@settings(deadline=None)
@given(st.integers(1, 10 * 365 * 86400))
def test_what_is_shown_is_never_more_than_the_unit_left_out_away(seconds: int) -> None:
    shown = parse_duration(format_duration(float(seconds)).replace(" ", ""))
    assert 0 <= seconds - shown <= seconds / 10
