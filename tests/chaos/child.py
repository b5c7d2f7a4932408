"""A child of the runner as one simulated process: the runner's own code, in a thread that runs only when told to.

The real child blocks: on its command, on the lock of its action, on an agent that may hang up. Here it parks instead,
and the world decides when and whether it goes on. Death is an exception that no code catches on its way out: flock(2)
and sockets are let go of as the kernel would, and nothing more is written. What the kernel says of processes, and what
waits in the kernel, is simulated (`kernel`); lock, journal, recovery and supervision are the real ones.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from signal import Signals
from typing import TYPE_CHECKING, Any, Final, Self
from unittest.mock import patch

from nanoexec.model import Output, Run, identifier
from nanoexec.runner.execution import Ending
from nanoexec.runner.journal import Journal
from nanoexec.runner.lock import ActionLock
from nanoexec.runner.process import Process as Identity
from nanoexec.runner.service import Service
from nanoexec.runner.stopping import STOP
from nanoexec.runner.supervision import Supervision
from nanoexec.runner.tables import ADMIT

if TYPE_CHECKING:
    from tests.chaos.node import Node

_LOOKS: Final = 0.05  # seconds between two looks at a lock that the kernel would wake us for
LASTING: Final = 0.25
# What a runner may say: a supervisor has died, a run was cancelled in time, an order came too late.
_MEANT: Final = (" was interrupted: ", ": it will not be started", " expired before the runner came to it")
CHILD: Final[ContextVar["Child"]] = ContextVar("child")


class KilledError(BaseException):
    """The process is no more."""


class Child:
    """One forked process. ``work`` is all that it does; `resume` returns when it parks or has ended."""

    def __init__(self, node: "Node", work: Callable[["Child"], None]) -> None:
        self.node = node
        self.identity = Identity(boot=node.boot, pid=node.new_pid(), ticks=node.world.new_number())
        self.ended = False
        self.run_id = ""  # what it was started for; perhaps another process answers for that
        self.since: float | None = None  # of an order: when its agent has asked what the hub's clock shows
        self.at_command = False
        self.wakeup: ChildWakeup | None = None
        self.fault: BaseException | None = None
        self._work = work
        self._killed = False
        self._parked = 0
        self._go = threading.Semaphore(0)
        self._stay = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._live, daemon=True)

    def begin(self) -> None:
        """Fork it: it runs until it parks for the first time."""
        self.node.children.append(self)
        self._thread.start()
        self._stay.acquire()
        self._bury()

    def resume(self) -> None:
        """Let it run on until it parks again."""
        self._go.release()
        self._stay.acquire()
        self._bury()

    def kill(self) -> None:
        """SIGKILL."""
        self._killed = True
        if not self.ended:
            self.resume()

    def park(self, seconds: float) -> None:
        """Sleep; called by the child itself."""
        self._parked += 1
        self.node.world.wake_later(self._wake, self._parked, seconds)
        self._stay.release()
        self._go.acquire()
        self._parked += 1  # a timer that was not what woke it is void
        self.point()

    def point(self) -> None:
        """Here death may strike."""
        if self._killed:
            raise KilledError

    def die(self) -> None:
        """Death strikes here, from within."""
        self._killed = True
        self.point()

    def command_is_over(self) -> None:
        """Have a command that would go on end now."""
        if self.at_command and not self.ended:
            self.resume()

    def wake_soon(self, within: float) -> None:
        """Cut short the sleep that it is in, unless it ends by itself before that."""
        self.node.world.wake_later(self._wake, self._parked, within)

    def _wake(self, parked: int) -> None:
        if parked == self._parked and not self.ended:
            self.resume()

    def _live(self) -> None:
        CHILD.set(self)
        try:
            self._work(self)
        except KilledError:
            pass
        except BaseException as error:  # noqa: BLE001 - told in the thread of the test
            self.fault = error
        finally:
            self.ended = True
            self._stay.release()

    def _bury(self) -> None:
        if self.ended:
            self._thread.join()
            if self._killed and self.run_id and self.node.answers_for(self.identity, self.run_id):
                self.node.truth.killed(self.node.name, self.run_id)
            if self in self.node.children:
                self.node.children.remove(self)
            if self.fault is not None:
                self.node.world.loop.faults.append(f"a child of the runner failed: {self.fault!r}")
                self.fault = None


class WatchedJournal(Journal):
    """The journal, in a process that can die, or be overtaken by others, just before a commit and just after it."""

    def _commit(self, statement: str, values: Any) -> bool:
        child = CHILD.get()
        child.node.at_commit(child, "before")
        changed = super()._commit(statement, values)
        if changed and statement == ADMIT and not values["outcome"] and child.since is not None:
            child.node.truth.admitted(child.node.name, values["id"], child.since)
        child.node.at_commit(child, "after")
        return changed


class ChildWakeup:
    """What `Wakeup` is to a real child: whether it has been asked to stop its run, and what it wakes up from."""

    def __init__(self) -> None:
        self.asked = False
        self._child = CHILD.get()

    def __enter__(self) -> Self:
        self._child.wakeup = self
        return self

    def __exit__(self, *_: object) -> None:
        self._child.wakeup = None

    def hear(self, within: float) -> None:
        """The signal: a poll(2) on the command returns a moment later, perhaps because the command has just ended."""
        self.asked = True
        if self._child.at_command:
            self._child.wake_soon(within)


class ChildService(Service, frozen=True):
    """The child's work as it is, with a command that is pretended."""

    child: Any = None
    stack: Any = None

    def open_journal(self) -> Journal:
        journal = WatchedJournal.open(self.paths.journal, identifier(self.child.node.world.new_bytes()))
        self.stack.callback(journal.close)
        return journal

    def _supervision(self, journal: Journal, work: Any, connection: Any, wakeup: Any) -> Supervision:
        made = super()._supervision(journal, work, connection, wakeup)
        pretend(made, self.child, work.run, wakeup)
        return made


def pretend(supervision: Supervision, child: Child, run: Run, wakeup: ChildWakeup | None = None) -> None:
    """Have the command of this run be a step of the world. Asked to stop, it does so at once, late, or is killed."""

    def perform(command: Any, *, lasting: Callable[[int], object], **_: Any) -> Ending:
        node = child.node
        length = node.truth.started(node.name, run, supervision._journal.find(run.id))
        status = node.world.draw_status()
        length = min(length, command.timeout)
        over = node.world.loop.time() + length
        late = stopped = False
        try:
            child.at_command = True
            if length:
                child.park(min(length, LASTING))
            if length > LASTING:
                lasting(node.new_pid())
                if wakeup is None or not wakeup.asked:
                    child.park(over - node.world.loop.time())
            stopped = wakeup is not None and wakeup.asked and node.world.loop.time() < over
            late = length >= command.timeout and not stopped
            if stopped:
                node.truth.told_to_stop(node.name, run.id)
                status = node.world.random.choice((-15, -15, 0, 3, -9))
                child.park(command.kill_after if status == -9 else node.world.random.choice((0.0, 0.0, 0.3)))
        finally:
            child.at_command = False
            node.truth.stopped(node.name, run)
        status = -15 if late else status
        node.truth.ended(node.name, run.id, status)
        return Ending(
            pid=node.new_pid(), status=status, duration=length, timed_out=late, output=Output(), stopped=stopped
        )

    child.run_id = run.id
    supervision._perform = perform
    supervision._pause = child.park


def _lives(identity: Identity) -> bool:
    return CHILD.get().node.lives(identity)


def _send_signal(identity: Identity, number: Signals, **_: Any) -> bool:
    """As the kernel does: `STOP` finds the runner's handler in each of its children, SIGTERM ends them."""
    node = CHILD.get().node
    child = next((child for child in node.children if child.identity == identity and not child.ended), None)
    if child is None:
        return False
    if number != STOP:
        node.world.in_nobodys_name(node.world.loop.call_later, node.world.random.uniform(0, 0.01), child.kill)
    elif child.wakeup is not None:
        child.wakeup.hear(node.world.random.uniform(0, 0.01))
    return True


def _say(line: str) -> None:
    """Where a runner catches what must not end it, it says so, and nothing else would show it."""
    if not any(meant in line for meant in _MEANT):
        CHILD.get().node.world.loop.faults.append(f"a child of the runner says: {line}")


@contextmanager
def kernel() -> Iterator[None]:
    """What only a kernel knows of a process, and where a process would sleep in it."""

    def acquire(self: ActionLock, within: float) -> bool:
        child = CHILD.get()
        until = child.node.world.loop.time() + within
        while not self.try_acquire():
            if child.node.world.loop.time() >= until:
                return False
            child.park(_LOOKS)
        return True

    def has_gone(connection: Any, within: float) -> bool:
        CHILD.get().park(within)
        return bool(connection.gone())

    with ExitStack() as stack:
        for name, simulated in {
            "nanoexec.runner.supervision.this_process": lambda: CHILD.get().identity,
            "nanoexec.runner.cancelling.this_process": lambda: CHILD.get().identity,
            "nanoexec.runner.cancelling.lives": _lives,
            "nanoexec.runner.cancelling.send_signal": _send_signal,
            "nanoexec.runner.recovery.boot_id": lambda: CHILD.get().node.boot,
            "nanoexec.runner.recovery.lives": _lives,
            "nanoexec.runner.service._has_gone": has_gone,
            "nanoexec.runner.service.Wakeup": ChildWakeup,
            "nanoexec.runner.service.say": _say,
            "nanoexec.runner.supervision.say": _say,
        }.items():
            stack.enter_context(patch(name, simulated))
        stack.enter_context(patch.object(ActionLock, "acquire", acquire))
        yield
