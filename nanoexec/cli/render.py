"""Values as text for people and as JSON for programs. Pure, but for asking whether a terminal wants colour."""

import enum
import os
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec

from nanoexec.duration import format_duration
from nanoexec.model import Delivery, Outcome, Output
from nanoexec.target import fold

_INDENT: Final = "    "
_RED, _GREEN, _YELLOW, _BOLD, _PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[1m", "\x1b[0m"
_COLOURS: Final = {
    "succeeded": _GREEN,
    "changed": _GREEN,
    "failed": _RED,
    "timed-out": _RED,
    "interrupted": _RED,
    "lost": _RED,
    "refused": _YELLOW,
    "skipped": _YELLOW,
    "expired": _YELLOW,
    "cancelled": _YELLOW,
}
_CONTROLS: Final = re.compile("[\x7f-\x9f]")  # those that JSON allows in a text, and a terminal obeys
_ORDER: Final = ("failed", "timed-out", "interrupted", "lost", "refused", "expired", "cancelled", "skipped")


def wants_colour(stream: TextIO) -> bool:
    """Colour is for terminals whose owner has not said no (NO_COLOR, no-color.org; TERM=dumb)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def to_the_millisecond(seconds: float | None) -> str:
    """A time for comparing, local, with its date."""
    if seconds is None:
        return "-"
    then = _local(seconds)
    return then.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] if then else f"{seconds:.0f} s"


def paint(text: str, word: str, *, colour: bool) -> str:
    """``text`` in the colour that belongs to a state or outcome."""
    return f"{_COLOURS[word]}{text}{_PLAIN}" if colour and word in _COLOURS else text


def moment(seconds: float | None) -> str:
    """A time for reading, local: the clock today, the date before."""
    if seconds is None:
        return "never"
    then = _local(seconds)
    if then is None:
        return f"{seconds:.0f} s"
    today = datetime.now(UTC).astimezone().date()
    return then.strftime("%H:%M:%S" if then.date() == today else "%Y-%m-%d %H:%M")


def _local(seconds: float) -> datetime | None:
    """None for a time that has no date: a node may say any, and must not keep those of the others from being shown."""
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def verdict(delivery: Delivery) -> str:
    """One word: the outcome where there is one, else the state."""
    if delivery.run is not None and delivery.run.outcome is not None:
        return outcome_word(delivery.run.outcome, changed=delivery.run.changed)
    return str(delivery.state)


def outcome_word(outcome: Outcome, *, changed: bool | None) -> str:
    """``changed`` is how a success is called that changed the machine."""
    return "changed" if outcome is Outcome.SUCCEEDED and changed else str(outcome)


def results(deliveries: Iterable[Delivery], *, colour: bool) -> list[str]:
    """Deliveries that are final, as lines: failures first, alike ones folded under their node set."""
    groups: dict[tuple[str, str, str], list[Delivery]] = {}
    for delivery in deliveries:
        text = delivery.run.output.text() if delivery.run else ""
        groups.setdefault((verdict(delivery), delivery.reason, text), []).append(delivery)
    lines = []
    for (word, reason, text), members in sorted(groups.items(), key=lambda item: (_rank(item[0][0]), item[1][0].node)):
        nodes = fold(delivery.node for delivery in members)
        head = f"{nodes} ({len(members)})" if len(members) > 1 else nodes
        said = reason if reason.startswith(f"{word} ") else f"{word}: {reason}" if reason else word
        title = paint(printable(said), word, colour=colour)
        lines.append(f"{_BOLD + head + _PLAIN if colour else head}  {title}{_took(members)}")
        lines += [_INDENT + printable(line) for line in text.rstrip("\n").splitlines()]
    return lines


def _rank(word: str) -> int:
    return _ORDER.index(word) if word in _ORDER else len(_ORDER)


def _took(members: Sequence[Delivery]) -> str:
    times = sorted(d.run.duration for d in members if d.run is not None and d.run.duration is not None)
    if not times:
        return ""
    first, last = format_duration(times[0]), format_duration(times[-1])
    return f"  {first}" if first == last else f"  {first} to {last}"


def counted(number: int, noun: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def printable(text: str) -> str:
    """Without control characters: what a node prints must not drive the operator's terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def plain(value: Any) -> Any:
    """A value for programs: every key is there, whatever its value, and an output is one text."""
    if isinstance(value, Output):
        return {"text": value.text(), "size": value.size, "cut": value.cut}
    if isinstance(value, msgspec.Struct):
        return {key: plain(item) for key, item in msgspec.structs.asdict(value).items()}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, enum.StrEnum) else value


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """One JSON document on standard output, which may be a terminal."""
    import json

    text = json.dumps(value, indent=indent, ensure_ascii=False)
    sys.stdout.write(_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")
    sys.stdout.flush()


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell, the first row the heading. A cell cannot drive the terminal either."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def say(*lines: str) -> None:
    """Results, on standard output."""
    for line in lines:
        print(line)


def tell(*lines: str) -> None:
    """What is not a result, on standard error."""
    sys.stdout.flush()
    for line in lines:
        print(line, file=sys.stderr)
