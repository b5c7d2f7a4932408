"""``nanoexec-run --scheduled``: cron has started an adopted line. Skip the slot, or run the original command?

    cron ── shell ── this process ──► journal: has a run since the slot before succeeded?
              ▲                          │
              └──── descriptor 3 ◄───────┘   nothing: do it yourself · exit 0: skipped · exit N: it was run for you

Most slots of a fleet are skipped, so the way to a skip is short: the interpreter, SQLite, one look at some files, one
commit. No msgspec, TOML, regular expressions or pathlib, whose imports each cost more than all of that. Any other way
ends in `nanoexec.run.scheduled`.

Whatever fails before the command has started (a configuration or a journal that cannot be read, a full disk, a fault of
our own) is one line on standard error. Nothing is said to the shell, and the shell runs the original.

Which slot it is: the line that cron started is looked for in the crontabs, as they are now, by its whole command. If
several have that command, it is the one whose slot came last. Cron's own time zone is that of the machine, or
``CRON_TZ`` with cronie, whichever has a slot now. Where no slot is near, none is believed and the action is run: a line
that nobody finds, a cron that goes by another zone. For all that, ``@reboot`` is told apart by when cron was started.
"""

# Importing pathlib takes half as long as all of a skip.
# ruff: noqa: PTH100, PTH110, PTH116, PTH118

import os
import time

from nanoexec.errors import NanoexecError, StoreError, UsageError
from nanoexec.fallback import AHEAD, Decision, Interval, Policy, decide, interval
from nanoexec.run.plan import BEACON, JOURNAL, Plan, key, signature
from nanoexec.run.shell import Shell, Voice, user
from nanoexec.runner.glance import Glance
from nanoexec.schedule import Schedule, Zone, local, named

LATE = 600.0  # seconds after which a slot is no longer the reason for this start; zones differ by more
BOOTING = 60.0  # seconds after its own start in which cron starts what is due at @reboot
UNABLE = 1


class Call:
    """What the adopted line says."""

    __slots__ = ("action", "root", "shadow")

    def __init__(self, action: str, root: str, *, shadow: bool) -> None:
        self.action = action
        self.root = root
        self.shadow = shadow


class Slot:
    """One start by cron: what is asked, by whose crontab, when, from which shell (None in the shadow)."""

    __slots__ = ("call", "glance", "plan", "shell", "started", "user")

    def __init__(self, call: Call, shell: Shell | None) -> None:
        """Raises `NanoexecError`."""
        self.call = call
        self.shell = shell
        self.started = time.time()
        self.user = user()
        journal = self.path(JOURNAL)
        if not os.path.exists(journal):
            from nanoexec.run.scheduled import make_journal  # once in a node's life

            make_journal(call.root)
        if os.geteuid() not in (0, os.stat(journal).st_uid):
            raise StoreError(f"{journal}: only its owner can note what runs, and {self.user} is not")
        self.glance = Glance(journal)
        self.plan = self._plan()

    def path(self, relative: str) -> str:
        return os.path.join(self.call.root, relative)

    def decide(self, now: float) -> Decision:
        """Whether the slot is still needed at ``now``, which may be later than its start."""
        current = self._interval()
        runs = self.glance.starts(self.call.action, current.since) if current else []
        return decide(
            Policy(self.plan.policy),
            current,
            runs,
            now=now,
            heard=self._heard(),
            silence=self.plan.silence,
        )

    def skip(self, reason: str) -> None:
        """Note that the slot is not used."""
        self.glance.note_skip(self.call.action, by=self.user, reason=reason, now=time.time())

    def _plan(self) -> Plan:
        seen = signature(self.call.root, self.user)
        name = key(self.call.action, self.user)
        known = self.glance.memory(name)
        plan = Plan.read(known) if known else None
        if plan is None or plan.signature != seen:
            from nanoexec.run.planning import make_plan  # only when a file has changed

            plan = make_plan(self.call.root, self.call.action, self.user, seen)
            self.glance.remember(name, bytes(plan))
        return plan

    def _interval(self) -> Interval | None:
        """The interval of this slot; None for ``@reboot``, an empty one if no slot is near."""
        command = self.shell.command if self.shell else b""
        lines = [Schedule.parse(fields) for fields, known in self.plan.lines if known == command]
        now = self.started
        found: list[tuple[float, float, Interval]] = []
        for schedule in lines:
            for zone in _zones():
                slot, this = schedule.previous(now + AHEAD, zone), interval(schedule, now, zone)
                late = 0.0 if slot is None or schedule.random else now - slot
                if this and late < LATE:
                    found.append((now - late, this.since, this))
        if any(schedule.reboot for schedule in lines) and (not found or self._booting(now - max(found)[0])):
            return None
        return max(found)[2] if found else Interval(now, now)

    def _booting(self, late: float) -> bool:
        return late > BOOTING or (self.shell is not None and self.shell.cron_age() < BOOTING)

    def _heard(self) -> float | None:
        try:
            return os.stat(self.path(BEACON)).st_mtime
        except OSError:
            return None


def run_slot(words: list[str]) -> int:
    """Carry out what the adopted line says; the exit status, which nobody but a person at the keyboard looks at."""
    try:
        call = parse(words)
        return _shadow(call) if call.shadow else _slot(call)
    except NanoexecError as error:
        _say(str(error))
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - whatever it is: the work that is due must be done
        _say(f"{type(error).__name__}: {error}")
        return UNABLE


def parse(words: list[str]) -> Call:
    """``--scheduled ACTION [--shadow] [--root DIR]``. Raises `UsageError`."""
    values = {"--scheduled": "", "--root": "/"}
    shadow = False
    rest = iter(words)
    for word in rest:
        if word in values:
            values[word] = next(rest, "")
        elif word == "--shadow":
            shadow = True
        else:
            raise UsageError(f"unexpected {word!r} beside --scheduled: try nanoexec-run --help")
    if not (values["--scheduled"] and values["--root"]):
        raise UsageError("--scheduled needs an action and --root a directory: try nanoexec-run --help")
    return Call(values["--scheduled"], os.path.abspath(values["--root"]), shadow=shadow)


def _slot(call: Call) -> int:
    voice, shell = Voice(), Shell.calling()
    slot = Slot(call, shell)
    decision = slot.decide(slot.started)
    if not decision.run:
        slot.skip(decision.reason)
        voice.end(0)
        return 0
    from nanoexec.run.scheduled import carry_out  # the longer way

    return carry_out(slot, shell, voice)


def _shadow(call: Call) -> int:
    """Note what would have been done. Cron's shell has gone on to the original already."""
    slot = Slot(call, None)
    decision = slot.decide(slot.started)
    slot.skip(f"shadow: would have been {'run' if decision.run else 'skipped'}: {decision.reason}")
    return 0


def _zones() -> list[Zone]:
    """The zones by which cron may go. ``TZ`` in a crontab is for the command: cron itself does not read it."""
    if os.environ.pop("TZ", None) is not None:
        time.tzset()
    name = os.environ.get("CRON_TZ")
    try:
        return [local, named(name)] if name else [local]
    except UsageError:
        return [local]


def _say(line: str) -> None:
    from nanoexec.runner.log import say  # a slot that is skipped has nothing to say

    say(f"nanoexec-run: {line}")
