"""What cron runs on this machine, and what of it an action would take over."""

import enum
from collections.abc import Iterator

from nanoexec.actions import Catalog
from nanoexec.config import Paths
from nanoexec.crontab.adoption import adopted, tampered
from nanoexec.crontab.commands import Claims, Verdict
from nanoexec.crontab.elsewhere import elsewhere
from nanoexec.crontab.lines import Line
from nanoexec.crontab.places import MACHINE, OWN_FILE, Crontab, system_crontabs
from nanoexec.crontab.sieve import Sieve
from nanoexec.crontab.spool import user_crontabs
from nanoexec.model import Value


class Found(enum.StrEnum):
    """What was found: a job, a file that cron ignores, or something that starts a tool without a crontab."""

    JOB = "job"
    IGNORED = "ignored"
    SCRIPT = "script"
    ANACRON = "anacron"
    TIMER = "timer"


class State(enum.StrEnum):
    """What a job is to nanoexec. A scheduled line is its own; a damaged one was adopted, and changed by hand."""

    FOREIGN = ""
    LIVE = "live"
    SHADOW = "shadow"
    SCHEDULED = "scheduled"
    DAMAGED = "damaged"


class Finding(Value, frozen=True):
    """A job, or what else runs by itself. ``number`` is 0 for a whole file.

    ``action`` is the one concerned, empty if none is. ``reason`` says why it does not take the line over, or what to do
    instead; empty for a line that can be adopted as it is. ``text`` is for reading: not every byte survives in it.
    """

    file: str
    number: int
    text: str
    kind: Found
    action: str = ""
    reason: str = ""
    state: State = State.FOREIGN
    schedule: str = ""
    user: str = ""

    @property
    def taken(self) -> bool:
        """Whether the line can be adopted without anybody naming it."""
        return self.kind is Found.JOB and bool(self.action) and not self.reason and self.state is State.FOREIGN


class Judge:
    """Says of many lines which action takes each over. Made once for all of them."""

    def __init__(self, paths: Paths, catalog: Catalog) -> None:
        self._paths = paths
        self.claims = Claims(catalog.actions.values())
        self._sieve = Sieve(catalog.actions.values())

    def verdict(self, crontab: Crontab, line: Line) -> Verdict:
        """Which action would take a line over, or why none does; the file counts too."""
        if not self._sieve.passes(line.raw):
            return Verdict()
        found = self.claims.verdict(line, owner=crontab.owner)
        if found.taken and crontab.ignored:
            return Verdict(found.action, f"cron ignores this file: {crontab.ignored}")
        if found.taken and (reason := unjournaled(self._paths, line.user or crontab.owner)):
            return Verdict(found.action, reason)
        return found


def unjournaled(paths: Paths, user: str) -> str:
    """Why runs of a line of this user could not be journaled, empty if they can: the journal of a machine is root's.

    Each slot of such a line would run the original command, and mail a complaint about the journal.
    """
    if paths.root != MACHINE or user in ("", "root"):
        return ""
    return f"it runs as {user}, who cannot write the journal: only lines of root can be fallbacks"


def crontabs(paths: Paths) -> Iterator[Crontab]:
    """Every crontab of the machine, those that cron ignores too."""
    yield from system_crontabs(paths)
    yield from user_crontabs(paths)


def scan(paths: Paths, catalog: Catalog) -> tuple[Finding, ...]:
    """Every job of every crontab, every crontab that is ignored, and what else starts a tool of an action."""
    return tuple(_findings(paths, Judge(paths, catalog)))


def shown(data: bytes) -> str:
    """Bytes of a crontab, for reading."""
    return data.rstrip(b"\r\n").decode(errors="replace")


def _findings(paths: Paths, judge: Judge) -> Iterator[Finding]:
    own = str(paths.root / OWN_FILE)
    for crontab in crontabs(paths):
        if crontab.ignored:
            yield Finding(crontab.file, 0, "", Found.IGNORED, reason=crontab.ignored)
        for line in crontab.lines:
            if line.job:
                yield _job(crontab, line, judge, ours=crontab.file == own)
    for other in elsewhere(paths, judge.claims):
        yield Finding(other.file, 0, other.text, Found(other.kind), other.action, other.advice)


def _job(crontab: Crontab, line: Line, judge: Judge, *, ours: bool) -> Finding:
    ignored = f"cron ignores this file: {crontab.ignored}" if crontab.ignored else ""
    calling = b"--scheduled" in line.raw  # cheaper than to ask of every line whether it is adopted
    if calling and (known := adopted(line)):
        state = State.SCHEDULED if ours else State.SHADOW if known.shadow else State.LIVE
        action, reason = known.action, ignored
    elif calling and tampered(line):
        state, action = State.DAMAGED, ""
        reason = "it calls nanoexec-run in words of its own: mend it by hand"
    else:
        found = judge.verdict(crontab, line)
        state, action, reason = State.FOREIGN, found.action, found.reason
    user = crontab.owner or line.user
    return Finding(crontab.file, line.number, shown(line.raw), Found.JOB, action, reason, state, line.schedule, user)
