"""The life of one run in the process that answers for it: lock, journal, command, outcome.

The runner's children and ``nanoexec-run`` both come through here, so that a trigger, cron and a person share one lock
and one record.

While an action is free, its run is admitted as started: one commit, then the command. While it is busy, ``on_busy``
decides. ``refuse`` says who is running. ``wait`` and ``coalesce`` admit the run and wait for the lock, asleep, as long
as the action may last. With ``coalesce``, a run that gets the lock and finds that an equal one began after its own
admission and has ended takes that outcome: its request was served. So any number of requests during a run make one
more.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL, Signals
from typing import Final

from msgspec.structs import replace

from nanoexec.actions import Judge, OnBusy
from nanoexec.duration import format_duration
from nanoexec.errors import NanoexecError, StoreError
from nanoexec.model import Cause, Outcome, Output, Run
from nanoexec.runner.execution import Ending, execute
from nanoexec.runner.journal import Journal, PassingError
from nanoexec.runner.lock import ActionLock
from nanoexec.runner.log import say
from nanoexec.runner.order import Work
from nanoexec.runner.process import this_process
from nanoexec.runner.recovery import recover
from nanoexec.runner.spawning import NotStartedError

Clock = Callable[[], float]
Perform = Callable[..., Ending]  # as `execute`
_GLANCE: Final = 0.02  # seconds between two looks at who holds a lock
_NAMELESS: Final = 5.0  # seconds after which a holder that is not in the journal is refused for all that
_RETRIES: Final = (0.1, 1.0, 10.0, 60.0)  # seconds before saying again how a run ended; the last again and again


def _for_ever() -> float:
    return math.inf


class TooLateError(NanoexecError):
    """The order has expired, and the journal does not have it: nothing runs."""


class Supervision:
    """One run. ``tell`` hears of it when it must wait and when it lasts; `carry_out` gives how it ended.

    ``limit`` is how many bytes of output are kept. ``admitted`` says whether the journal has the run as this process's
    own: if not, nothing has run and nothing will. ``perform`` executes the command. ``spare`` is asked once the lock is
    there: why the run is not needed any more, empty if it is. Raises `OSError`.
    """

    def __init__(
        self,
        journal: Journal,
        work: Work,
        *,
        locks: Path,
        limit: int,
        tell: Callable[[Run], object],
        forward: Sequence[Signals] = (),
        perform: Perform = execute,
        spare: Callable[[], str] = lambda: "",
        clock: Clock = time.time,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._journal = journal
        self._work = work
        self._locks = locks
        self._limit = limit
        self._tell = tell
        self._forward = forward
        self._perform = perform
        self._spare = spare
        self._clock = clock
        self._pause = pause
        me = this_process()
        self._ticks = me.ticks
        self._run = replace(work.run, boot=me.boot, supervisor=me.pid)
        self._left: Clock = _for_ever
        self.admitted = False

    def carry_out(self, left: Clock = _for_ever) -> Run:
        """The run once it has ended; or, for an id that the journal already has, that run as it is.

        ``left`` gives for how many seconds more it may be journaled; then it may wait for its turn as long as any.
        Raises `StoreError`, `TooLateError`.
        """
        self._left = left
        if not self._work.exclusive:
            return self._begin()
        with ActionLock(self._locks, self._run.action) as lock:
            if lock.try_acquire():
                return self._begin()
            if self._work.manifest.on_busy is OnBusy.REFUSE:
                return self._begin_or_refuse(lock)
            return self._wait(lock)

    def _begin(self) -> Run:
        if reason := self._spare():
            return self._refuse(reason)
        known = self._admit(replace(self._run, started=self._clock()))
        return self._execute(known) if self.admitted else known

    def _begin_or_refuse(self, lock: ActionLock) -> Run:
        """The holder has the lock before it is in the journal, and may be this very order, delivered twice: so it is
        looked up, not judged by the lock alone.
        """
        recover(self._journal, self._clock())
        until = time.monotonic() + _NAMELESS
        while (holder := self._journal.running(self._run.action)) is None:
            if lock.acquire(_GLANCE):
                return self._begin()
            if time.monotonic() > until:
                return self._refuse("busy: another run of this action is about to start")
        if holder.id == self._run.id:
            return holder
        return self._refuse(f"busy: run {holder.id} has been running for {_since(holder, self._clock())}")

    def _refuse(self, reason: str) -> Run:
        """A slot of a crontab is skipped: there is nobody to be told no."""
        outcome = Outcome.SKIPPED if self._run.cause is Cause.SCHEDULE else Outcome.REFUSED
        run = replace(self._run, outcome=outcome)
        return refuse(self._journal, run, reason, expires=self._work.expires, now=self._clock())

    def _wait(self, lock: ActionLock) -> Run:
        known = self._admit(self._run)
        if not self.admitted:
            return known
        self._tell(self._journal.find(known.id) or known)
        patience = min(self._work.command.timeout, self._work.manifest.timeout_seconds)
        if not lock.acquire(patience):
            holder = self._journal.running(self._run.action)
            whom = f"run {holder.id}" if holder else "another run"
            return self._finish(replace(known, outcome=Outcome.SKIPPED, reason=_waited(patience, whom)))
        if reason := self._spare():
            return self._finish(replace(known, outcome=Outcome.SKIPPED, reason=reason))
        if self._work.manifest.on_busy is OnBusy.COALESCE and (equal := self._journal.equal_since(known)):
            return self._finish(
                replace(
                    known,
                    outcome=equal.outcome,
                    status=equal.status,
                    changed=equal.changed,
                    shared=equal.id,
                    reason=f"coalesced with run {equal.id}",
                )
            )
        started = self._clock()
        self._journal.start(known.id, started)
        return self._execute(replace(known, started=started))

    def _admit(self, run: Run) -> Run:
        """The run as the journal has it, which is another's if it was there before."""
        left = self._left()
        if left > 0:
            known = self._journal.admit(run, self._ticks, self._work.expires, within=left)
            self.admitted = known is None
            return known or run
        if known := self._journal.find(run.id):
            return known
        raise TooLateError(f"trigger {run.id} expired before the runner came to it")

    def _execute(self, run: Run) -> Run:
        judge = Judge(self._work.manifest.outcome)
        try:
            ending = self._perform(
                self._work.command,
                sinks=(judge.feed,),
                limit=self._limit,
                lasting=self._lasts,
                forward=self._forward,
            )
        except NotStartedError as error:
            return self._finish(replace(run, outcome=Outcome.FAILED, reason=str(error), duration=0.0))
        if ending.stopped:
            outcome, changed, reason = Outcome.CANCELLED, None, self._by_whom()
        elif ending.timed_out:
            outcome, changed, reason = Outcome.TIMED_OUT, None, _late(self._work.command.timeout, ending)
        else:
            verdict = judge.verdict(ending.status)
            outcome, changed, reason = verdict.outcome, verdict.changed, verdict.reason
        return self._finish(
            replace(
                run,
                pid=ending.pid,
                duration=ending.duration,
                outcome=outcome,
                reason=reason,
                status=ending.status,
                changed=changed,
                output=ending.output,
            )
        )

    def _by_whom(self) -> str:
        """The journal had the name before this process had the signal."""
        try:
            known = self._journal.find(self._run.id)
        except StoreError:
            known = None
        return f"cancelled by {known.canceller}" if known and known.canceller else "cancelled"

    def _lasts(self, pid: int) -> None:
        """Only now is the pid written down: a run that is over in a moment is spared the commit."""
        try:
            self._journal.note_pid(self._run.id, pid)
            known = self._journal.find(self._run.id)
        except StoreError as error:
            say(f"run {self._run.id} goes on, but its pid was not journaled: {error}")
        else:
            self._tell(known or self._run)

    def _finish(self, run: Run) -> Run:
        """Nobody else knows how it ended: say it until the journal takes it, without the output, when a disk is full.

        Who waits for the lock goes on waiting: it could not journal its own start. Only a journal that no waiting mends
        is given up, for another may have taken its place, and its runs need the lock.
        """
        ended = replace(run, ended=self._clock())
        tries = 0
        while True:
            delay = _RETRIES[min(tries, len(_RETRIES) - 1)]
            try:
                return self._journal.finish(ended)
            except StoreError as error:
                if tries >= len(_RETRIES) and not isinstance(error, PassingError):
                    raise
                say(f"run {run.id} has ended ({ended.outcome}); saying so again in {format_duration(delay)}: {error}")
            if not tries:
                self._tell_that_it_is_known(run)
            self._pause(delay)
            ended = replace(ended, output=Output(size=run.output.size))
            tries += 1

    def _tell_that_it_is_known(self, run: Run) -> None:
        """Of a short run nothing was told so far: whoever waits for it must not think that it never started."""
        with suppress(StoreError):
            known = self._journal.find(run.id)
            if known and known.outcome is None:
                self._tell(known)


def refuse(journal: Journal, run: Run, reason: str, *, expires: float, now: float) -> Run:
    """Journal that ``run`` will never start; gives what the journal says of its id. Raises `StoreError`."""
    refused = replace(run, outcome=run.outcome or Outcome.REFUSED, reason=reason, ended=now)
    return journal.admit(refused, 0, expires) or journal.find(run.id) or refused


def _since(run: Run, now: float) -> str:
    return format_duration(max(0.0, now - (run.started or now)))


def _waited(patience: float, whom: str) -> str:
    return f"waited {format_duration(patience)} for {whom}"


def _late(timeout: float, ending: Ending) -> str:
    late = f"timed out after {format_duration(timeout)}"
    return f"{late} and had to be killed" if ending.status == -SIGKILL else late
