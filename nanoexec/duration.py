"""Durations as people write them: ``90``, ``30s``, ``15m``, ``1h30m``, ``7d``."""

import re
from functools import lru_cache
from typing import Final

from nanoexec.errors import UsageError

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BARE: Final = re.compile(r"\d{1,9}(?:\.\d{1,3})?")
_PART: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([smhdw])")
_LIMIT: Final = 10 * 365 * 86400.0


@lru_cache(maxsize=64)  # the manifests', which every run asks for
def parse_duration(text: str) -> float:
    """Seconds in a duration such as ``1h30m``; a bare number means seconds. Raises `UsageError`."""
    if _BARE.fullmatch(text):
        seconds = float(text)
    else:
        parts = _PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise UsageError(f"{text!r} is not a duration: write a number with s, m, h, d or w, such as 30m or 1h30m")
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not 0 < seconds <= _LIMIT:
        raise UsageError(f"the duration {text!r} must be above zero and at most ten years")
    return seconds


def format_duration(seconds: float) -> str:
    """A duration for reading: two units at most, ``1h 5m``, ``12.3s``, ``80ms``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < _SECONDS["m"]:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    whole, units = round(seconds), []
    for unit in ("w", "d", "h", "m", "s"):
        count, whole = divmod(whole, _SECONDS[unit])
        if count:
            units.append(f"{count}{unit}")
    return " ".join(units[:2])
