"""The agent as a running service: a link to the hub while there is one, patience while there is none.

Everything that it touches is handed in, so that it runs the same over real sockets and in the memory of a test.
"""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from nanoexec.agent import errand
from nanoexec.agent.core import ANSWER_WITHIN, AgentCore
from nanoexec.agent.handover import Due
from nanoexec.errors import ConfigError, NanoexecError, ProtocolError, UnavailableError
from nanoexec.model import Instant
from nanoexec.transport import Link, NodeTransport
from nanoexec.wire import network, runner

DIAL_WITHIN: Final = 10.0  # seconds
GOODBYE_WITHIN: Final = 1.0
RUNNER_WITHIN: Final = 10.0
FIRST_BACKOFF: Final = 1.0
LAST_BACKOFF: Final = 60.0
STEADY_AFTER: Final = 60.0  # seconds that a link must have lasted to count as good
QUIET: Final = 5.0
DESCRIBE_EVERY: Final = 300.0
HEARD_EVERY: Final = 5.0  # seconds between two notes that the hub was heard
DESCRIBE_AGAIN: Final = 5.0  # seconds after the runner could not be asked: it may come up just behind the agent
TICK: Final = 1.0
_log = logging.getLogger("nanoexec.agent")


class Agent:
    """One agent. ``explain`` says why a dial failed (for the log); ``save`` writes the cursor; ``now`` is the clock.

    ``beacon`` is the file whose time says when the hub was last heard, for the slots of crontabs. ``tell_link`` is told
    whether the link is up, since when (wall clock) and what keeps it down, each time that this changes.
    """

    def __init__(
        self,
        core: AgentCore,
        *,
        transport: NodeTransport,
        runner_socket: Path,
        journal: Path,
        beacon: Path,
        save: Callable[[], None],
        tell_link: Callable[[bool, float, str], None],
        now: Callable[[], Instant],
        explain: Callable[[], Awaitable[str]],
        jitter: random.Random,
    ) -> None:
        self.core = core
        self.counters: Counter[str] = Counter()
        self._transport = transport
        self._runner_socket = runner_socket
        self._journal_files = (journal, journal.with_name(journal.name + "-wal"))
        self._journal_seen: tuple[tuple[int, int], ...] = ()
        self._beacon = beacon
        self._heard_at = -HEARD_EVERY
        self._save = save
        self._tell_link = tell_link
        self._link: tuple[bool, float, str] | None = None
        self._saved = core.outbox.cursor
        self._unsaved = False
        self._now = now
        self._explain = explain
        self._jitter = jitter
        self._stir = asyncio.Event()
        self._errands: set[asyncio.Task[None]] = set()
        self._describe_at = 0.0
        self._undescribed = False
        self._look_at = 0.0
        self._problem = ""
        self._was_welcomed = False

    async def serve(self) -> None:
        """Stay connected, for ever. Redials with full jitter, so that a fleet does not come back all at once."""
        failures = 0
        self._note_link(up=False, why="the agent has just started")
        while True:
            began = self._now().steady
            try:
                # A task of its own: a task group loses a cancellation if one of its tasks fails just then, and on
                # Python 3.11 marks its task as cancelled when nobody did.
                await asyncio.create_task(self._converse())
            except NanoexecError as error:
                if (me := asyncio.current_task()) and me.cancelling():
                    raise asyncio.CancelledError from None
                await self._lost(error)
            welcomed, self._was_welcomed = self._was_welcomed, False
            failures = 0 if welcomed and self._now().steady - began > STEADY_AFTER else failures + 1
            await asyncio.sleep(self._jitter.uniform(0, min(LAST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(failures, 8))))

    async def stop(self) -> None:
        """After `serve` was cancelled: let go of the runner. Runs that are under way go on without the agent."""
        for task in self._errands:
            task.cancel()
        await asyncio.gather(*self._errands, return_exceptions=True)
        self._note_link(up=False, why="the agent was stopped")
        self._keep_cursor()

    async def _lost(self, error: NanoexecError) -> None:
        """Say once why there is no link, and again when the reason changes."""
        problem = str(error)
        if not self._was_welcomed:
            problem = await self._explain() or problem
        if problem != self._problem:
            _log.warning("no link to the hub: %s", problem)
        self._note_link(up=False, why=problem)
        self._problem = problem
        self.counters["links_lost"] += 1

    async def _converse(self) -> None:
        """One link, from dialing to losing it."""
        topics = (network.TOPIC_ALL, network.TOPIC_HUB, network.topic_of(self.core.name))
        link = await self._transport.dial(topics, DIAL_WITHIN)
        try:
            self.core.connected(self._now())
            self._stir.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(link))
                group.create_task(self._talk(link))
                group.create_task(self._tick())
        except asyncio.CancelledError:
            with contextlib.suppress(NanoexecError):
                await link.request(network.encode(network.Bye()), GOODBYE_WITHIN)
            raise
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            self.core.disconnected()
            await link.close()

    async def _listen(self, link: Link) -> None:
        while True:
            frame = await link.receive()
            self.core.heard(frame, self._now())
            self._note_beacon(self._now().steady)
            self._act()

    async def _talk(self, link: Link) -> None:
        while True:
            self._stir.clear()
            while (question := self.core.question(self._now())) is not None:
                try:
                    frame = network.encode(question)
                except (
                    ProtocolError
                ) as error:  # too large for any hub: it must not keep all that follows from being said
                    self.core.unsayable(question, str(error), self._now())
                    continue
                answer = await link.request(frame, ANSWER_WITHIN)
                self.core.answered(question, answer, self._now())
                if self.core.welcomed and not self._was_welcomed:
                    self._was_welcomed = True
                    self._problem = ""
                    _log.info("welcome at the hub")
                    self._note_link(up=True)
                self._act()
            await self._stir.wait()

    async def _tick(self) -> None:
        while True:
            now = self._now()
            if self.core.hub_is_silent(now):
                raise UnavailableError("the hub is silent: no beacon for two and a half intervals")
            self.core.tick(now)
            if now.steady >= self._describe_at:
                self._describe_at = now.steady + DESCRIBE_EVERY
                self._errand(self._describe())
            self._look_at_journal()
            self._keep_cursor()
            self._act()
            self._stir.set()
            await asyncio.sleep(TICK)

    def reload(self) -> None:
        """Ask the runner anew which actions there are."""
        self._describe_at = 0.0

    def _act(self) -> None:
        """Do what the core wants done."""
        now = self._now()
        for order in self.core.orders_due(now):
            self._errand(self._hand_over(order))
        for wish in self.core.cancels.due(now.steady):
            self._errand(self._cancel(wish))
        if request := self.core.changes_wanted(now):
            self._errand(self._relay(request))
        for note in self.core.notes:
            self.counters[note.count] += 1
            _log.warning("%s", note.text)
        self.core.notes.clear()

    def _errand(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._errands.add(task)
        task.add_done_callback(self._errand_done)

    def _errand_done(self, task: "asyncio.Task[None]") -> None:
        self._errands.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("errand to the runner failed", exc_info=error)
        self._stir.set()

    async def _hand_over(self, due: Due) -> None:
        known = False
        request = runner.Start(order=due.order, deadline=due.deadline)
        try:
            async with contextlib.aclosing(errand.ask(self._runner_socket, request)) as replies:
                async for reply in replies:
                    if isinstance(reply, runner.Told):
                        known = True
                        self.core.told(reply.run)
                        self._look_at = self._now().steady + QUIET
                    elif isinstance(reply, runner.Rejected):
                        known = True
                        self.core.rejected(due.id, reply.reason, self._now(), final=reply.final)
                    self._stir.set()
        except (UnavailableError, ProtocolError) as error:
            self.core.handovers.failed(due.id, str(error), self._now().steady)
            _log.warning("trigger %s: %s", due.id, error)
        else:
            if not known:
                self.core.handovers.failed(due.id, "the runner hung up without an answer", self._now().steady)

    async def _cancel(self, wish: runner.Cancel) -> None:
        """Ask the runner, and hear it to the end: the hub waits for what becomes of the run."""
        problem, final, ended = "the runner hung up without an answer", False, False
        try:
            async with contextlib.aclosing(errand.ask(self._runner_socket, wish)) as replies:
                async for reply in replies:
                    if isinstance(reply, runner.Told):
                        self.core.told(reply.run)
                        ended = reply.run.outcome is not None
                    elif isinstance(reply, runner.Rejected):
                        problem, final = reply.reason, reply.final
                    self._stir.set()
        except (UnavailableError, ProtocolError) as error:
            problem = str(error)
        if ended:
            self.core.cancels.done(wish.trigger)
        else:
            self.core.cancel_rejected(wish.trigger, problem, self._now(), final=final)

    async def _relay(self, request: runner.Changes) -> None:
        try:
            reply = await errand.ask_once(self._runner_socket, request, RUNNER_WITHIN)
        except (UnavailableError, ProtocolError) as error:
            self.core.changes_failed(str(error), self._now())
            return
        if isinstance(reply, runner.Changed):
            self.core.changed(reply)
        else:
            reason = reply.reason if isinstance(reply, runner.Rejected) else "the runner answers with something else"
            self.core.changes_failed(reason, self._now())

    async def _describe(self) -> None:
        try:
            reply = await errand.ask_once(self._runner_socket, runner.Describe(), RUNNER_WITHIN)
        except (UnavailableError, ProtocolError) as error:
            self._describe_at = self._now().steady + DESCRIBE_AGAIN
            if not self._undescribed:
                _log.warning("the node's actions are not known: %s", error)
            self._undescribed = True
            return
        self._undescribed = False
        if isinstance(reply, runner.Described):
            self.core.described(reply.actions)
            for fault in reply.faults:
                _log.warning("%s", fault)

    def _look_at_journal(self) -> None:
        """A cheap look: whoever writes the journal, cron's runs too, moves its change time.

        What the runner has just told need not be read again at once, while a whole fleet may be busy with a trigger.
        """
        if self._now().steady < self._look_at:
            return
        seen = tuple(_signature(file) for file in self._journal_files)
        if seen != self._journal_seen:
            self._journal_seen = seen
            self.core.journal_moved()

    def _note_beacon(self, steady: float) -> None:
        """Whatever the hub publishes shows that it is there. Not for each frame: a whole fleet may be busy."""
        if steady - self._heard_at >= HEARD_EVERY:
            self._heard_at = steady
            with contextlib.suppress(OSError):  # a slot is then run that could have been skipped
                self._beacon.touch()

    def _note_link(self, *, up: bool, why: str = "") -> None:
        before = self._link
        since = before[1] if before and before[0] == up else self._now().wall
        if (up, since, why) != before:
            self._link = (up, since, why)
            with contextlib.suppress(ConfigError, OSError):  # it is for people to read; the link itself matters more
                self._tell_link(up, since, why)

    def _keep_cursor(self) -> None:
        """On a full disk the runner, which is root, may go on, and so must the link: a cursor that is not kept costs a
        repetition after a restart, nothing else. The next tick tries again.
        """
        cursor = self.core.outbox.cursor
        if cursor == self._saved:
            return
        try:
            self._save()
        except ConfigError as error:
            if not self._unsaved:
                _log.warning("how far the journal is relayed is not kept: %s", error)
            self._unsaved = True
        else:
            self._saved = cursor
            self._unsaved = False


def _signature(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)
