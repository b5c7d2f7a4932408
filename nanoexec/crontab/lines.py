"""A crontab as lines, byte for byte.

`parse` reads what cron reads: joined together, the ``raw`` of its lines are the file again, whatever is in it. Nothing
is decoded, normalised or repaired; a job says where its parts are, as offsets into its own line.

What is a job follows Debian's cron 3.0pl1, tried with its ``crontab -n``, and what cronie reads besides (entry.c,
env.c, its pull request 121): ``-`` before the schedule, ``~`` ranges (Debian's takes ``0~30`` for ``0``), ``-n`` before
the command, settings with an empty value. A line that only one of the two accepts is a job: to take it for one does no
harm where cron does not.
"""

import enum
import functools
import re
from typing import Final

import msgspec

from nanoexec.model import Value

DEFAULT_SHELL: Final = "/bin/sh"

_SETTING: Final = re.compile(
    rb"""[ \t]* (?: "(?P<name1>[^"=\n]*)" | '(?P<name2>[^'=\n]*)' | (?P<name3>(?:[^\s='"][^\s=]*)?) )
    \s* = \s* (?: "(?P<value1>[^"\n]*)" | '(?P<value2>[^'\n]*)' | (?P<value3>(?:[^\s'"][^\n]*)?) ) \s*""",
    re.VERBOSE,
)
# Cron reads up to six stars as a slip of the pen: what follows the schedule may not begin with one. In the command, a
# backslash hides the character after it from the search for "%".
_WHEN: Final = rb"[ \t]*(?P<quiet>-?)(?P<when>@[^ \t\n]+|[^ \t\n]+(?:[ \t]+[^ \t\n]+){4})[ \t]+"
_USER: Final = rb"(?P<user>[^* \t\n][^ \t\n]*)[ \t]+"
_WHAT: Final = (
    rb"(?P<flags>(?:-[nqs]+[ \t]+)*)"
    rb"(?P<command>(?!\*)[^%\\\n]*(?:\\[^\n][^%\\\n]*)*\\?)(?:%(?P<input>[^\n]*))?\n"
)
_SYSTEM_JOB: Final = re.compile(_WHEN + _USER + _WHAT)
_USER_JOB: Final = re.compile(_WHEN + _WHAT)

_BLANKS: Final = re.compile(rb"[ \t]+")  # nothing else is a blank to cron, not even a carriage return
_NICKNAMES: Final = frozenset(
    (b"@reboot", b"@yearly", b"@annually", b"@monthly", b"@weekly", b"@daily", b"@midnight", b"@hourly")
)
_MONTHS: Final = {name: n for n, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
_DAYS: Final = {name: n for n, name in enumerate(b"sun mon tue wed thu fri sat".split())}
_DIGITS: Final = 10  # more is nobody's number, and int() refuses thousands of them
_NO_NAMES: Final[dict[bytes, int]] = {}
_FIELDS: Final = (
    ("minute", 0, 59, _NO_NAMES),
    ("hour", 0, 23, _NO_NAMES),
    ("day of month", 1, 31, _NO_NAMES),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)
# An item ends at a comma, at the field's end, or at a character of no meaning, from which cron skips to the next blank.
_RANGE: Final = re.compile(
    rb"""(?P<low>\d+|[a-z]+)? (?:(?P<to>[-~])(?P<high>\d+|[a-z]+)?(?:/(?P<step>\d+))?)?
    (?P<rest>\Z|,|(?(to)[^0-9a-z/]|[^0-9a-z/~-]))""",
    re.VERBOSE | re.IGNORECASE,
)
_STAR: Final = re.compile(rb"\*(?:/(?P<step>\d+)(?P<rest>\Z|,|[^0-9a-z])|(?P<bare>\Z|,|[^/]))", re.IGNORECASE)


class Kind(enum.StrEnum):
    """What cron takes a line for. An invalid line is one that it does not act on, and `Line.fault` says why."""

    JOB = "job"
    NICKNAME = "nickname"
    SETTING = "setting"
    COMMENT = "comment"
    BLANK = "blank"
    INVALID = "invalid"


class Span(Value, frozen=True, array_like=True):
    """Part of a line: offsets of its first byte and of the one after its last."""

    start: int
    end: int


class Job(Value, frozen=True):
    """Where the parts of a job are in its line.

    ``schedule`` is the five fields, or the nickname with its ``@``. ``flags`` are cronie's ``-n`` and its like. The
    ``command`` begins at its first character that is not blank and ends before the first unescaped ``%``; ``input`` is
    what follows that ``%``. ``quiet`` is the ``-`` that keeps a job out of the log.
    """

    schedule: Span
    command: Span
    user: Span | None = None
    flags: Span | None = None
    input: Span | None = None
    quiet: bool = False


class Line(Value, frozen=True):
    """One line with its line end, if it has one. ``number`` counts from 1.

    ``environment`` is what the settings up to here say, and on a line that is a setting what they say after it; cron's
    own defaults are not in it.
    """

    raw: bytes
    number: int
    kind: Kind
    job: Job | None = None
    fault: str = ""
    environment: dict[str, str] = msgspec.field(default_factory=dict)

    def text(self, span: Span | None) -> str:
        """A part of the line; bytes that are not UTF-8 survive as surrogates, as in `os.fsdecode`."""
        return _text(self.raw[span.start : span.end]) if span else ""

    @property
    def schedule(self) -> str:
        """The five fields with single blanks between, or the nickname; empty if this is not a job."""
        return re.sub("[ \t]+", " ", self.text(self.job.schedule)) if self.job else ""

    @property
    def user(self) -> str:
        """The user column; empty in a user's crontab."""
        return self.text(self.job.user) if self.job else ""

    @property
    def command(self) -> bytes:
        r"""The command as the shell gets it: ``\%`` has become ``%``. Empty if this is not a job."""
        if self.job is None:
            return b""
        command = self.raw[self.job.command.start : self.job.command.end]
        return re.sub(rb"\\(.)", _unescape, command, flags=re.DOTALL) if b"\\%" in command else command

    @property
    def shell(self) -> str:
        """The program that cron hands the command to."""
        return self.environment.get("SHELL", DEFAULT_SHELL)


def parse(data: bytes, *, system: bool) -> tuple[Line, ...]:
    """The lines of a crontab; ``system`` means that jobs have a user column (``/etc/crontab``, ``/etc/cron.d``).

    Never fails. Debian's cron ignores a whole file that does not end in a newline; here only the line at fault is
    invalid, and who reads files must look.
    """
    pattern = _SYSTEM_JOB if system else _USER_JOB
    environment: dict[str, str] = {}
    lines = []
    for number, raw in enumerate(data.split(b"\n"), 1):
        whole = raw + b"\n"
        line = _line(whole, number, pattern, environment)
        environment = line.environment
        lines.append(line)
    return (*lines[:-1], *_without_end(lines[-1]))


def _line(raw: bytes, number: int, pattern: re.Pattern[bytes], environment: dict[str, str]) -> Line:
    bare = raw.lstrip(b" \t")
    if bare == b"\n" or bare.startswith(b"#"):
        return Line(raw, number, Kind.BLANK if bare == b"\n" else Kind.COMMENT, environment=environment)
    if b"\0" in raw:
        return _invalid(raw, number, "it has a NUL byte, where cron's C strings end", environment)
    if b"=" in raw and (match := _SETTING.fullmatch(raw)):
        name = match["name1"] or match["name2"] or match["name3"] or b""
        value = match["value1"] or match["value2"] or (match["value3"] or b"").rstrip()
        return Line(raw, number, Kind.SETTING, environment={**environment, _text(name): _text(value)})
    system = pattern is _SYSTEM_JOB
    match = pattern.fullmatch(raw)
    fault = _schedule_fault(match["when"]) if match else _why_no_job(bare, system=system)
    if match is None or fault:
        return _invalid(raw, number, fault, environment)
    kind = Kind.NICKNAME if match["when"].startswith(b"@") else Kind.JOB
    return Line(raw, number, kind, _job(match, system=system), environment=environment)


def _job(match: re.Match[bytes], *, system: bool) -> Job:
    return Job(
        schedule=Span(*match.span("when")),
        command=Span(*match.span("command")),
        user=Span(*match.span("user")) if system else None,
        flags=Span(match.start("flags"), match.start("flags") + len(match["flags"].rstrip()))
        if match["flags"]
        else None,
        input=Span(*match.span("input")) if match["input"] is not None else None,
        quiet=bool(match["quiet"]),
    )


def _without_end(line: Line) -> tuple[Line, ...]:
    """What stands behind the last line end: usually nothing."""
    raw = line.raw[:-1]
    if not raw:
        return ()
    if line.kind in (Kind.BLANK, Kind.COMMENT, Kind.INVALID):
        return (Line(raw, line.number, line.kind, fault=line.fault, environment=line.environment),)
    return (_invalid(raw, line.number, "no newline at its end, so cron does not read it", line.environment),)


def _invalid(raw: bytes, number: int, fault: str, environment: dict[str, str]) -> Line:
    return Line(raw, number, Kind.INVALID, fault=fault, environment=environment)


def _why_no_job(bare: bytes, *, system: bool) -> str:
    words = _BLANKS.split(bare.removeprefix(b"-").rstrip(b" \t\n"))
    fields = words[:1] if words[0].startswith(b"@") else words[:5]
    if fault := _schedule_fault(b" ".join(fields)):
        return fault
    rest = words[len(fields) :]
    if rest and rest[0].startswith(b"*"):
        return "a sixth field of time: expected five, then " + ("a user" if system else "a command")
    if system and not rest:
        return "no user and no command after the schedule"
    return "no command after the user" if system else "no command after the schedule"


def _schedule_fault(when: bytes) -> str:
    if when.startswith(b"@"):
        return "" if when in _NICKNAMES else f"unknown nickname {_text(when)!r}: expected one like @hourly, @reboot"
    fields = _BLANKS.split(when)
    for place, field in enumerate(fields):
        if fault := _field_fault(place, field):
            return fault
    return "" if len(fields) == len(_FIELDS) else f"{len(fields)} of the five fields of time, then nothing"


@functools.lru_cache(maxsize=1024)  # the same few fields on nearly every line of a fleet
def _field_fault(place: int, field: bytes) -> str:
    """What is wrong with a field; empty if nothing."""
    what, lowest, highest, names = _FIELDS[place]
    at = 0
    while True:
        match = _STAR.match(field, at) or _RANGE.match(field, at)
        if match is None or not _within(match.groupdict(), lowest, highest, names):
            return f"bad {what} {_text(field)!r}: expected * or {lowest}-{highest}, lists, ranges and steps of these"
        if field[match.end() - 1 : match.end()] != b"," or match.end() == at:
            return ""
        at = match.end()


def _within(parts: dict[str, bytes | None], lowest: int, highest: int, names: dict[bytes, int]) -> bool:
    if parts["step"] is not None and _number(parts["step"], _NO_NAMES) < 1:
        return False
    if "bare" in parts:  # a star
        return True
    ends = [_number(part, names) for part in (parts["low"], parts["high"]) if part]
    wanted = {None: 1, b"-": 2, b"~": 0}[parts["to"]]
    return len(ends) >= wanted and all(lowest <= end <= highest for end in ends)


def _number(part: bytes, names: dict[bytes, int]) -> int:
    return int(part) if part.isdigit() and len(part) < _DIGITS else names.get(part.lower(), -1)


def _unescape(match: re.Match[bytes]) -> bytes:
    return b"%" if match[1] == b"%" else match[0]


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")
