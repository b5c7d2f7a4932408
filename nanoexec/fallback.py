"""Whether a scheduled run is still needed when cron starts it: run, or skip.

The question
------------
cron starts the adopted line at a slot. The line is skipped when the *interval is satisfied*: a run of the action that
succeeded has started since the slot before this one. "This slot" is the last one at or before now: cron starts a job
within seconds, and late rather than early. If it is so late that the next slot has passed, the interval is the later,
shorter one, and the job runs rather than not.

With ``17 * * * *``, at 11:17:01 (this slot 11:17, the one before 10:17):

==========================================================  =========  ================================================
the latest run of the action                                satisfied  because
==========================================================  =========  ================================================
trigger, started 10:40, succeeded                           yes
by hand, started 10:40, succeeded                           yes        it is the same work under the same lock
trigger, started 10:17:00 sharp, succeeded                  yes        "since" includes the slot itself
trigger, started 10:16:59, ended 10:30, succeeded           no         what it saw was as old as the slot before
trigger, started 10:40, failed, timed out or interrupted    no
trigger, started 10:40, no outcome yet                      no         nobody knows: the lock and ``on_busy`` decide
trigger with arguments (``noop=true``), succeeded           no         it may have done something else
schedule, started 10:17:01, succeeded                       no         it was the slot before
schedule, started 10:40 (waited, or another line), ...      no         below
schedule, skipped at 10:17                                  no         it did nothing
any, coalesced into another run (``shared``)                no         the other one is in the journal, and is judged
any, "started" 11:30                                        no         the clock has gone back; allow `AHEAD` for steps
==========================================================  =========  ================================================

Runs that a schedule caused never count. Two lines for one action, at 03:00 and at 15:00, meant two runs a day before
they were adopted, and must after; a run that waited for the lock until 10:40 is still the one of 10:17, and would
otherwise make every second slot be skipped. So cron's own rhythm stays as it was, and only work that came another way
takes its place.

A run that is going on may satisfy the interval by the time the lock is free: whoever waits for it asks again then.

Where `Schedule.random`, the slots are known but for a shift that cron keeps to itself. As the job has been started now,
now is its slot, and the one before is as long ago as the two lowest possible ones are apart.

This module is on the way of every skip, so it is without msgspec and typing: see `nanoexec.schedule`. Times are seconds
since the epoch.
"""

import enum
import time
from collections.abc import Iterable

from nanoexec.schedule import Schedule, Zone

AHEAD = 5.0  # seconds by which the clock may have been put back since cron, or a run, read it


class Policy(enum.StrEnum):
    """``[fallback] policy`` of a manifest: when the schedule still runs an action. ``@reboot`` lines always do."""

    UNSATISFIED = "unsatisfied"  # if the interval is not satisfied
    HUB_SILENT = "hub-silent"  # if it is not satisfied, and no beacon of the hub has arrived for a while
    ALWAYS = "always"
    NEVER = "never"


class Interval:
    """The time in which a run must have started to spare the slot that is now: from ``since`` to ``until``, both in."""

    __slots__ = ("since", "until")

    def __init__(self, since: float, until: float) -> None:
        self.since = since
        self.until = until


class Past:
    """A run of the action as the journal has it: the columns started, cause, outcome, shared, arguments, in this order.

    ``arguments`` is the journal's text of them, a JSON object.
    """

    __slots__ = ("arguments", "cause", "outcome", "shared", "started")

    def __init__(
        self, started: float | None, cause: str, outcome: str | None, shared: str | None, arguments: str
    ) -> None:
        self.started = started
        self.cause = cause
        self.outcome = outcome
        self.shared = shared
        self.arguments = arguments


class Decision:
    """What to do at this slot, and why, in words for the journal."""

    __slots__ = ("reason", "run")

    def __init__(self, *, run: bool, reason: str) -> None:
        self.run = run
        self.reason = reason


def interval(schedule: Schedule, now: float, zone: Zone) -> Interval | None:
    """The interval of the slot that cron starts ``now``. None: there is no slot before it, as for ``@reboot``."""
    slot = schedule.previous(now + AHEAD, zone)
    before = None if slot is None else schedule.previous(slot - 1, zone)
    if slot is None or before is None:
        return None
    shift = max(0.0, now - slot) if schedule.random else 0.0
    return Interval(since=before + shift, until=now + AHEAD)


def decide(
    policy: Policy,
    current: Interval | None,
    runs: Iterable[Past],
    *,
    now: float,
    heard: float | None,
    silence: float,
) -> Decision:
    """Run or skip. ``runs`` may be any runs of the action that include those of ``current``, in any order.

    ``heard`` is when the last beacon of the hub arrived, None if never; ``silence`` (seconds) is how long without one
    makes the hub silent. A beacon from the future says nothing: the clock has gone back.
    """
    if current is None:
        return Decision(run=True, reason="no slot before this one to compare with, as for @reboot")
    if policy is Policy.ALWAYS:
        return Decision(run=True, reason="policy always")
    if policy is Policy.NEVER:
        return Decision(run=False, reason="policy never")
    started = satisfied(current, runs)
    if started is not None:
        return Decision(run=False, reason=f"satisfied: a run that succeeded has started at {_text(started)}")
    if policy is Policy.HUB_SILENT and heard is not None and now - silence < heard <= now + AHEAD:
        return Decision(run=False, reason=f"policy hub-silent: the hub was heard at {_text(heard)}")
    return Decision(run=True, reason=f"unsatisfied: no run that succeeded has started since {_text(current.since)}")


def satisfied(current: Interval, runs: Iterable[Past]) -> float | None:
    """When the latest run started that satisfies an interval; None if there is none. The table above is its rule."""
    starts = (
        run.started
        for run in runs
        if run.started is not None
        and current.since <= run.started <= current.until
        and run.outcome == "succeeded"
        and run.cause != "schedule"
        and run.shared is None
        and run.arguments == "{}"
    )
    return max(starts, default=None)


def _text(instant: float) -> str:
    """In UTC: the reason travels to the hub, and is read there."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(instant))
