"""The edit that takes a crontab line over, and the one that gives it back: a prefix, and no other byte.

`nanoexec.crontab.prefix` says what the prefix does. Whatever somebody changes on an adopted line besides it (schedule,
user, command) is kept when the line is restored.
"""

from pathlib import PurePosixPath
from typing import Final

from nanoexec.crontab.lines import Line, Span
from nanoexec.crontab.prefix import Prefix, split
from nanoexec.errors import UsageError
from nanoexec.model import Value

# Debian's cron refuses a command of 999 bytes ("command too long", measured with 3.0pl1-162), the input after "%"
# counted in; cronie's buffer is 128 KiB (macros.h). A crontab may go from one to the other: the smaller limit holds.
MAX_COMMAND: Final = 998
# Those that the prefix was tried with. ksh93 would wait for a shadow, and yash hands it the pipes of cron; restricted
# shells (rbash, jailshell) forbid redirection and paths; csh, fish and their like read another language.
SHELLS: Final = frozenset(("sh", "dash", "ash", "bash", "mksh", "zsh"))


class Adopted(Value, frozen=True):
    """A line that was taken over: by which call, and where in it the original command is."""

    prefix: Prefix
    original: Span

    @property
    def action(self) -> str:
        """Which action runs."""
        return self.prefix.action

    @property
    def shadow(self) -> bool:
        """Whether cron still runs the original itself."""
        return self.prefix.shadow


def adopted(line: Line) -> Adopted | None:
    """What an adopted line says; None for any other, also for one whose prefix was changed by hand."""
    if line.job is None:
        return None
    start, end = line.job.command.start, line.job.command.end
    parts = split(line.raw[start:end])
    return Adopted(parts[0], Span(end - len(parts[1]), end)) if parts else None


def tampered(line: Line) -> bool:
    """Whether a line calls ``nanoexec-run --scheduled`` in words that are not those of an adoption: only a person, or
    the backup, knows what it was.
    """
    words = line.command.split()
    return adopted(line) is None and b"--scheduled" in words and b"nanoexec-run" in line.command


def obstacle(line: Line, prefix: Prefix) -> str:
    """Why a line cannot be taken over, whatever it runs; empty if it can."""
    if line.job is None:
        return f"not a job ({line.fault or line.kind})"
    if not line.command.strip():
        return "it has no command"
    shell = PurePosixPath(line.shell)
    if not shell.is_absolute() or shell.name not in SHELLS:
        return f"its SHELL is {line.shell or 'empty'}, not a shell like /bin/sh"
    return _too_long(line, len(bytes(prefix)))


def adopt(line: Line, action: str, run_path: str, *, root: str = "", shadow: bool = False) -> bytes:
    """The line, taken over by ``action``; ``run_path`` is where ``nanoexec-run`` is, ``root`` what it gets as --root.

    A line that already is what is asked for comes back as it is. Raises `UsageError` when there is an obstacle, or when
    the line is adopted otherwise.
    """
    prefix = Prefix(action, run_path, root, shadow)
    if known := adopted(line):
        if known.prefix == prefix:
            return line.raw
        raise UsageError(f"line {line.number}: already adopted by {known.action}: restore it first")
    if tampered(line):
        raise UsageError(f"line {line.number}: calls nanoexec-run in words of its own: restore it by hand first")
    fault = obstacle(line, prefix)
    if fault or line.job is None:
        raise UsageError(f"line {line.number}: cannot be adopted by {action}: {fault}")
    start = line.job.command.start
    return line.raw[:start] + bytes(prefix) + line.raw[start:]


def restore(line: Line) -> bytes:
    """The line without the prefix; a line that has none as it is."""
    known = adopted(line)
    if known is None or line.job is None:
        return line.raw
    return line.raw[: line.job.command.start] + line.raw[known.original.start :]


def arm(line: Line) -> bytes:
    """A line adopted in the shadow, now run by nanoexec; any other line as it is. Raises `UsageError` if it gets too
    long for cron.
    """
    known = adopted(line)
    if known is None or line.job is None or not known.shadow:
        return line.raw
    prefix = bytes(Prefix(known.prefix.action, known.prefix.run, known.prefix.root))
    start = line.job.command.start
    if fault := _too_long(line, start + len(prefix) - known.original.start):
        raise UsageError(f"line {line.number}: cannot be armed: {fault}")
    return line.raw[:start] + prefix + line.raw[known.original.start :]


def _too_long(line: Line, extra: int) -> str:
    """Cron counts from behind the user, or else the schedule, to the end of the line."""
    if line.job is None:
        return ""
    start = (line.job.user or line.job.schedule).end + 1
    length = len(line.raw.removesuffix(b"\n")) - start + extra
    return f"its command would be {length} bytes long, and cron takes {MAX_COMMAND}" if length > MAX_COMMAND else ""
