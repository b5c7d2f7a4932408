"""One command, started and watched to its end: its output drained, its time limited, its process group answered for.

Nothing here sleeps or spins: one poll(2) waits for output, for the end of the process (a pidfd) and for the next thing
that is due.

* After ``timeout``, or when `STOP` comes, the process group gets SIGTERM, ``kill_after`` seconds later SIGKILL. The
  group is killed before its leader is reaped, so its number cannot be another's by then.
* A background child may keep the output open when the command has ended. It gets half a second to finish; then it is
  left alone, as under cron, and ``cat`` drains what it still writes, so that it never meets a broken pipe.
* Output may also pass through to descriptors of this process (`outlets`), and if so wished ``cat`` takes it there. A
  reader who does not read holds the command up, and then gets no more: the times above hold all the same.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Final, TypeVar

from nanoexec.model import Output, Value
from nanoexec.runner.capture import Capture
from nanoexec.runner.command import Command
from nanoexec.runner.process import group_lives
from nanoexec.runner.spawning import NotStartedError, spawn
from nanoexec.runner.stopping import STOP
from nanoexec.runner.tee import Tee
from nanoexec.wakeup import Wakeup

LASTING: Final = 0.25  # seconds; a run that ends sooner is told once, when it has ended
_LINGER: Final = 0.5
_SWEEP: Final = 0.05  # how often a group that was asked to end is looked at, once its leader has gone
_CHUNK: Final = 64 << 10  # what a pipe holds
_NEVER: Final = float("inf")

Made = TypeVar("Made")

Sink = Callable[[bytes], object]


class Ending(Value, frozen=True):
    """How a command ended. ``status`` is the exit status, negative for a signal; ``duration`` is monotonic seconds.

    ``stopped`` says that it was asked to end before it had ended by itself.
    """

    pid: int
    status: int
    duration: float
    timed_out: bool
    output: Output
    stopped: bool = False


def execute(
    command: Command,
    *,
    sinks: Sequence[Sink],
    limit: int,
    lasting: Callable[[int], object],
    forward: Sequence[signal.Signals] = (),
    outlets: Sequence[int] = (),
    afterwards: bool = False,
    wakeup: Wakeup | None = None,
) -> Ending:
    """Run ``command`` to its end. ``sinks`` get all of its output as it comes, ``limit`` bytes of it are kept.

    ``lasting`` is called once with the pid, if the command still runs after `LASTING`. The signals in ``forward`` are
    passed on to its process group meanwhile. ``outlets`` are one descriptor that gets all output, or two: then standard
    output and error are told apart, and ``sinks`` get them in the order in which they were read. ``afterwards``: they
    also get what a background child writes later, and whoever reads them waits for it. ``wakeup`` is what hears `STOP`,
    entered before anybody can know of the run. Raises `NotStartedError`.
    """
    capture = Capture(limit)
    started = time.monotonic()
    passages: dict[int, int | None] = {}
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:  # inherited: the kernel would reap the command
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        with ExitStack() as meanwhile:
            signals = meanwhile.enter_context(_forwarding(forward))
            if forward and not wakeup:
                wakeup = meanwhile.enter_context(_made(Wakeup, command))
            pid = _open_and_spawn(command, outlets, passages)
            signals.go_to(pid)
            watch = _Watch(command, pid, passages, sinks=(*sinks, capture.feed), lasting=lasting, started=started)
            watch.run(wakeup)
            if watch.asked_to_end:
                _signal_group(pid, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        for pipe in watch.reading:
            _leave_to_cat(pipe, passages[pipe] if afterwards else None)
    finally:
        for pipe in passages:
            os.close(pipe)
    return Ending(
        pid=pid,
        status=status,
        duration=watch.duration,
        timed_out=watch.timed_out,
        output=capture.output(),
        stopped=watch.stopped,
    )


class _Watch:
    """The state of one command while it runs."""

    def __init__(
        self,
        command: Command,
        pid: int,
        passages: Mapping[int, int | None],
        *,
        sinks: Sequence[Sink],
        lasting: Callable[[int], object],
        started: float,
    ) -> None:
        self._command = command
        self._pid = pid
        self._pidfd = -1
        self._tees = {pipe: Tee(outlet, self._wait_for) for pipe, outlet in passages.items() if outlet is not None}
        self._sinks = sinks
        self._lasting = lasting
        self._started = started
        self._lasting_due = self._started + LASTING
        self._term_due = self._started + command.timeout
        self._kill_due = _NEVER
        self._linger_due = _NEVER
        self._last_due = self._term_due + command.kill_after
        self._ended = False
        self._wakeup: Wakeup | None = None
        self.reading = set(passages)
        self.running = True
        self.timed_out = False
        self.stopped = False
        self.duration = 0.0

    @property
    def asked_to_end(self) -> bool:
        return self.timed_out or self.stopped

    def run(self, wakeup: Wakeup | None) -> None:
        """Return when the process has ended (unreaped) and its output too, or has had its time to."""
        self._wakeup = wakeup
        pidfd = self._pidfd = os.pidfd_open(self._pid)
        try:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            for pipe in self.reading:
                poller.register(pipe, select.POLLIN)
            if wakeup:
                poller.register(wakeup, select.POLLIN)
            while not self._over(now := time.monotonic()):
                for descriptor, _ in poller.poll(max(0.0, self._next_due(now) - now) * 1000):
                    if descriptor == pidfd:
                        poller.unregister(pidfd)
                        self._process_ended(time.monotonic())
                    elif wakeup and descriptor == wakeup.fileno():
                        self._obey(wakeup)
                    elif not self._drain(descriptor):
                        poller.unregister(descriptor)
                self._do_what_is_due(time.monotonic())
        finally:
            for tee in self._tees.values():
                tee.close()
            os.close(pidfd)

    def _over(self, now: float) -> bool:
        if self.running:
            return False
        if self.asked_to_end and now < self._kill_due:
            return not (self.reading or group_lives(self._pid))
        return not self.reading or now >= self._linger_due

    def _next_due(self, now: float) -> float:
        if self.running:
            return min(self._lasting_due, self._term_due, self._kill_due, now + 3600)
        return now + _SWEEP if self.asked_to_end else self._linger_due

    def _wait_for(self, outlet: int) -> bool:
        """Do what is due, and then wait until a reader may have made room, or until something else is due. False once
        the command is past its time and dealt with: then nobody waits any longer.
        """
        now = time.monotonic()
        self._do_what_is_due(now)
        if now >= self._last_due and not (self.running and self._kill_due < _NEVER):
            return False
        poller = select.poll()
        poller.register(outlet, select.POLLOUT)
        if not self._ended:
            poller.register(self._pidfd, select.POLLIN)
        if self._wakeup:
            poller.register(self._wakeup, select.POLLIN)
        dues = (self._lasting_due, self._term_due, self._kill_due, self._last_due, now + 3600)
        poller.poll(min(due - now for due in dues if due > now) * 1000)
        self._has_ended()
        if self._wakeup:
            self._obey(self._wakeup)
        return True

    def _do_what_is_due(self, now: float) -> None:
        if not self.running:
            return
        if now >= self._lasting_due:
            self._lasting_due = _NEVER
            if not self._has_ended():
                self._lasting(self._pid)
        if now >= self._term_due and not self._has_ended():
            self.timed_out = True
            self._end(now)
        elif now >= self._kill_due:
            self._kill_due = _NEVER
            _signal_group(self._pid, signal.SIGKILL)

    def _obey(self, wakeup: Wakeup) -> None:
        if STOP not in wakeup.take():  # what is passed on has been
            return
        if self.running and not self.asked_to_end and not self._has_ended():  # else it ends, or has, for its own reason
            self.stopped = True
            self._end(time.monotonic())

    def _has_ended(self) -> bool:
        """Also while output waits, and nobody has time for the end. The command has lasted until it is first seen."""
        if not self._ended and os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            self._ended = True
            self.duration = time.monotonic() - self._started
        return self._ended

    def _end(self, now: float) -> None:
        self._term_due, self._kill_due = _NEVER, now + self._command.kill_after
        _signal_group(self._pid, signal.SIGTERM)

    def _process_ended(self, now: float) -> None:
        self._has_ended()  # which notes when
        self.running = False
        self._linger_due = now + _LINGER
        if self._kill_due == _NEVER:  # killed already, or never asked to end
            self._kill_due = now

    def _drain(self, pipe: int) -> bool:
        chunk = os.read(pipe, _CHUNK)
        if not chunk:
            self.reading.discard(pipe)
            return False
        if pipe in self._tees:
            self._tees[pipe](chunk)
        for sink in self._sinks:
            sink(chunk)
        return True


def _open_and_spawn(command: Command, outlets: Sequence[int], passages: dict[int, int | None]) -> int:
    """The pid, and in ``passages`` the pipes to read from, each with where its output also goes."""
    writing: list[int] = []
    try:
        for outlet in outlets or (None,):
            reader, writer = _made(os.pipe, command)
            passages[reader] = outlet
            writing.append(writer)
        return spawn(command, writing[0], writing[-1])
    finally:
        for writer in writing:
            os.close(writer)


def _made(make: Callable[[], Made], command: Command) -> Made:
    """The run is in the journal by now: that there is no descriptor left must become its outcome, not our death.

    Once the command has started, the writing ends are closed: there is one for its pidfd.
    """
    try:
        return make()
    except OSError as error:
        raise NotStartedError(f"cannot start {command.program}: {error.strerror}") from None


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # gone, or all of it has become somebody else
        os.killpg(group, number)


def _leave_to_cat(pipe: int, outlet: int | None) -> None:
    """Whoever still writes must not be killed by SIGPIPE because we stop listening."""
    import subprocess  # noqa: PLC0415 - see nanoexec.runner.spawning; this is rare

    with suppress(OSError):
        drain = subprocess.Popen(
            ["cat"],
            stdin=pipe,
            stdout=subprocess.DEVNULL if outlet is None else outlet,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
            start_new_session=True,
        )
        drain.returncode = 0  # it outlives us on purpose: nobody waits for it


class _Signals:
    """Passes signals on to a process group; those that come before there is one wait for it."""

    def __init__(self) -> None:
        self._group: int | None = None
        self._early: list[signal.Signals] = []

    def pass_on(self, number: int, _frame: FrameType | None) -> None:
        if self._group is None:
            self._early.append(signal.Signals(number))
        else:
            _signal_group(self._group, signal.Signals(number))

    def go_to(self, group: int) -> None:
        self._group = group
        for number in self._early:
            _signal_group(group, number)


@contextmanager
def _forwarding(numbers: Sequence[signal.Signals]) -> Iterator[_Signals]:
    signals = _Signals()
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]  # nohup(1) means it
    before = {number: signal.signal(number, signals.pass_on) for number in heard}
    try:
        yield signals
    finally:
        for number, disposition in before.items():
            signal.signal(number, disposition)
