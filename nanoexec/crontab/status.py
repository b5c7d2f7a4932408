"""How the fallbacks of this machine stand: each line that nanoexec has in a crontab, and each that it has lost."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from nanoexec.actions import Catalog
from nanoexec.config import Paths
from nanoexec.crontab import records
from nanoexec.crontab.adoption import adopted
from nanoexec.crontab.lines import Line
from nanoexec.crontab.places import OWN_FILE, Crontab
from nanoexec.crontab.records import Adoption
from nanoexec.crontab.scan import State, crontabs
from nanoexec.errors import UsageError
from nanoexec.fallback import AHEAD, Interval, Past, Policy, satisfied
from nanoexec.model import Outcome, Value
from nanoexec.schedule import Schedule, Zone, named


class Status(Value, frozen=True):
    """A line and what is known of it. Times are seconds since the epoch; ``number`` is 0 for a line that is gone.

    ``next`` and ``previous`` are slots; None for ``@reboot``. ``satisfied``: a run has started since the previous slot
    that makes the next one unnecessary. ``drift`` is what is not as nanoexec left it, one sentence each.
    """

    action: str
    file: str
    number: int
    user: str
    schedule: str
    state: State
    policy: Policy
    next: float | None = None
    previous: float | None = None
    last_success: float | None = None
    cause: str = ""
    satisfied: bool = False
    drift: tuple[str, ...] = ()


def status(
    paths: Paths, catalog: Catalog, runs: Mapping[str, Sequence[Past]], *, now: float, zone: Zone
) -> tuple[Status, ...]:
    """The fallbacks, by action. ``runs`` are those of each action that the journal has, ``zone`` is cron's.

    Raises `ConfigError` when the records cannot be read.
    """
    known = records.load(paths)
    own, files = str(paths.root / OWN_FILE), set()
    found: list[Status] = []
    for crontab in crontabs(paths):
        files.add(crontab.file)
        here = [record for record in known if record.file == crontab.file]
        for line, base in _lines(paths, crontab, here, ours=crontab.file == own):
            noted = replace(
                base, policy=_policy(catalog, base.action), drift=(*base.drift, *_doubts(crontab, catalog, base))
            )
            found.append(_told(noted, line, runs.get(base.action, ()), now=now, zone=zone))
    for record in known:
        if record.file not in files:
            policy = _policy(catalog, record.action)
            where = paths.crontabs / record.backup
            drift = ("the file is gone", f"a copy is {where}" if where.exists() else f"its backup {where} is missing")
            found.append(Status(record.action, record.file, 0, record.owner, "", State.FOREIGN, policy, drift=drift))
    return tuple(sorted(found, key=lambda each: (each.action, each.file, each.number)))


def _lines(
    paths: Paths, crontab: Crontab, here: Iterable[Adoption], *, ours: bool
) -> Iterator[tuple[Line | None, Status]]:
    """Each line that is ours or was, with what is wrong with it; no line where it is gone."""
    paired = records.pair(crontab.lines, here)
    for pairing in paired.lines:
        known = adopted(pairing.line)
        state = State.SCHEDULED if ours else State.SHADOW if known and known.shadow else State.LIVE
        drift = []
        if pairing.record is None and not ours:
            drift.append("nothing is on record of its adoption")
        if pairing.record and not (paths.crontabs / pairing.record.backup).exists():
            drift.append(f"its backup {pairing.record.backup} is missing")
        if pairing.edited:
            drift.append("the line was edited by hand since it was adopted")
        yield pairing.line, _base(crontab, pairing.action, pairing.line, state, drift)
    originals = {line.raw for line in crontab.lines}
    damaged = list(paired.damaged)
    for record in paired.lost:
        line = next((line for line in damaged if f"--scheduled {record.action} ".encode() in line.raw), None)
        if line:
            damaged.remove(line)
            why = "what nanoexec put before the command was changed by hand"
        elif record.original in originals:
            why = "the original line stands there again"
        else:
            why = "the adopted line is gone"
        yield None, _base(crontab, record.action, line, State.DAMAGED if line else State.FOREIGN, [why])


def _base(crontab: Crontab, action: str, line: Line | None, state: State, drift: Sequence[str]) -> Status:
    return Status(
        action=action,
        file=crontab.file,
        number=line.number if line else 0,
        user=crontab.owner or (line.user if line else ""),
        schedule=line.schedule if line else "",
        state=state,
        policy=Policy.UNSATISFIED,
        drift=tuple(drift),
    )


def _told(base: Status, line: Line | None, runs: Sequence[Past], *, now: float, zone: Zone) -> Status:
    """The same with its slots and runs."""
    drift, before, after = base.drift, None, None
    if line:
        try:
            place = line.environment.get("CRON_TZ")
            zone = named(place) if place else zone
            schedule = Schedule.parse(line.schedule)
            if not schedule.reboot:
                before, after = schedule.previous(now, zone), schedule.next(now, zone)
        except UsageError as error:
            drift = (*drift, str(error))
    successes = [run for run in runs if run.outcome == Outcome.SUCCEEDED and run.started is not None]
    last = max(successes, key=lambda run: run.started or 0.0, default=None)
    return replace(
        base,
        next=after,
        previous=before,
        last_success=last.started if last else None,
        cause=last.cause if last else "",
        satisfied=before is not None and satisfied(Interval(since=before, until=now + AHEAD), runs) is not None,
        drift=drift,
    )


def _doubts(crontab: Crontab, catalog: Catalog, base: Status) -> Iterator[str]:
    if crontab.ignored:
        yield f"cron ignores the file: {crontab.ignored}"
    if base.action not in catalog.actions:
        yield f"this node has no action {base.action}, so the original command runs"


def _policy(catalog: Catalog, action: str) -> Policy:
    manifest = catalog.actions.get(action)
    return manifest.fallback.policy if manifest and manifest.fallback else Policy.UNSATISFIED
