"""The child's work: read one request from the agent, answer it, supervise the run that it asks for.

The agent may go away at any time. The run goes on; only the telling stops.
"""

import math
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

from nanoexec import clock
from nanoexec.actions import Catalog
from nanoexec.config import AgentConfig, Paths
from nanoexec.errors import ConfigError, NanoexecError, ProtocolError, RefusedError, StoreError, UnavailableError
from nanoexec.model import EVERY_NODE, MAX_ACTIONS, MAX_REASON, Run, Trigger
from nanoexec.runner.cancelling import cancel
from nanoexec.runner.execution import execute
from nanoexec.runner.journal import Journal
from nanoexec.runner.log import say
from nanoexec.runner.order import Verify, Work, check_meant, horizon, offers, requested, trigger_of, triggered_work
from nanoexec.runner.recovery import recover
from nanoexec.runner.supervision import Clock, Supervision, TooLateError, refuse
from nanoexec.settings import read_agent
from nanoexec.wakeup import Wakeup
from nanoexec.wire import stream
from nanoexec.wire.runner import (
    Cancel,
    Changed,
    Changes,
    Described,
    Rejected,
    Reply,
    Request,
    Start,
    Told,
    decode_request,
)

PATIENCE: Final = 5.0  # seconds for a whole request to arrive
MAX_REQUEST: Final = 128 << 10  # bytes; an order is at most half of it
MAX_BATCH: Final = 1000  # runs in one answer
_FIRST_LOOK, _LAST_LOOK = 0.01, 1.0  # seconds between looks at a run that another process supervises


def _steady() -> float:
    return clock.now().steady


class Service(msgspec.Struct, frozen=True):
    """What a child inherits from the parent's last look at the configuration. ``language`` is LANG for commands, and
    ``steady`` the clock of deadlines.
    """

    paths: Paths
    config: AgentConfig
    catalog: Catalog
    verify: Verify
    language: str | None = None
    clock: Clock = time.time
    steady: Clock = _steady

    def serve(self, connection: socket.socket, busy: str = "") -> None:
        """Answer the one request of a connection. ``busy``: why nothing can be started now, empty if it can.

        Raises `ProtocolError` for what is not a request.
        """
        request = read_request(connection)
        if isinstance(request, Start) and busy:
            _reject(connection, UnavailableError(busy), final=False)
        elif isinstance(request, Start):
            self._start(connection, request)
        elif isinstance(request, Cancel):
            self._cancel(connection, request)
        elif isinstance(request, Changes):
            self._changes(connection, request)
        elif request is not None:
            self._describe(connection)
            self.maintain()

    def _describe(self, connection: socket.socket) -> None:
        from nanoexec.runner.rhythm import intervals  # noqa: PLC0415 - the parent would carry it for every child

        actions = offers(self.catalog, self.config, intervals(self.paths, self.clock()))
        faults = tuple(str(fault) for fault in self.catalog.faults)
        known = len(self.catalog.actions) + self.config.allow_exec
        if known > MAX_ACTIONS:
            faults += (f"{known} actions: the hub hears of {MAX_ACTIONS} of them",)
        _tell(connection, Described(actions=actions, faults=faults))

    def maintain(self) -> None:
        """What is done when a runner starts, and whenever an agent asks what there is, every five minutes: settle the
        runs that nobody answers for any more, forget what is old. Raises `StoreError`.
        """
        with self.open_journal() as journal:
            now = self.clock()
            for run in recover(journal, now):
                say(f"run {run.id} of {run.action} was interrupted: {run.reason}")
            journal.prune(horizon(self.config, now), now)

    def open_journal(self) -> Journal:
        """Raises `StoreError`."""
        return Journal.open(self.paths.journal)

    def _changes(self, connection: socket.socket, request: Changes) -> None:
        try:
            journal = self.open_journal()
            recover(journal, self.clock())
            after = request.after if request.journal == journal.id else 0
            runs, more = journal.changes(after, max(1, min(request.limit, MAX_BATCH)))
            _tell(connection, Changed(journal=journal.id, runs=runs, more=more))
        except StoreError as error:
            _reject(connection, error, final=False)

    def _start(self, connection: socket.socket, request: Start) -> None:
        now = self.clock()
        try:
            trigger = trigger_of(request.order, self.config, self.verify)
            self._check_meant(trigger)
            journal = self.open_journal()
            self._check_age(trigger, journal, now)
        except (RefusedError, ProtocolError) as error:
            _reject(connection, error, final=True)
        except (ConfigError, StoreError) as error:  # once that is mended, the same order may run
            _reject(connection, error, final=False)
        else:
            self._run(connection, journal, trigger, now, partial(self._left, request.deadline))

    def _check_meant(self, trigger: Trigger) -> None:
        """Raises `RefusedError` for what was signed for others, `ConfigError` where nobody can tell. Without signers it
        would be of no use: whoever hands an order in could have written it. The name is read anew, for the node may
        have joined under another meanwhile.
        """
        if not self.config.signers or trigger.nodes == EVERY_NODE:
            return
        try:
            name = read_agent(self.paths).name
        except ConfigError:
            name = self.config.name
        if name is None:
            raise ConfigError(
                f"{self.paths.agent_config}: name is missing: expected this node's, for trigger {trigger.id} was signed"
                " for some nodes and not for all"
            )
        check_meant(trigger, name)

    def _check_age(self, trigger: Trigger, journal: Journal, now: float) -> None:
        """Raises `RefusedError` for what expired so long ago that the journal may have forgotten it: it may have run.

        This clock alone does not show that, for it may be far ahead of the hub's, which alone decides about expiry.
        """
        if trigger.expires < horizon(self.config, now) and journal.may_have_forgotten(trigger.expires):
            raise RefusedError(
                f"trigger {trigger.id} expired more than {self.config.journal_days} days ago:"
                " the journal no longer knows whether it has run"
            )

    def _cancel(self, connection: socket.socket, request: Cancel) -> None:
        now = self.clock()
        try:
            journal = self.open_journal()
            recover(journal, now)
            self._tell_to_the_end(connection, journal, cancel(journal, request, now))
        except RefusedError as error:
            _reject(connection, error, final=True)
        except StoreError as error:
            _reject(connection, error, final=False)

    def _left(self, deadline: float | None) -> float:
        """For how many seconds more an order may be journaled. An older agent does not say."""
        return math.inf if deadline is None else deadline - self.steady()

    def _run(
        self, connection: socket.socket, journal: Journal, trigger: Trigger, now: float, left: Callable[[], float]
    ) -> None:
        run = requested(trigger, now)
        supervision: Supervision | None = None
        try:
            try:
                work = triggered_work(trigger, run, self.catalog, self.config, self.language)
            except RefusedError as error:
                known = refuse(journal, run, str(error), expires=trigger.expires, now=now)
            else:
                with Wakeup() as wakeup:  # before the journal has the run: whoever finds it there may send the signal
                    supervision = self._supervision(journal, work, connection, wakeup)
                    known = supervision.carry_out(left)
            self._tell_to_the_end(connection, journal, known)
        except TooLateError as error:  # by what the agent knew; it is called expired by what it knows now
            _reject(connection, error, final=False)
        except StoreError as error:
            if supervision and supervision.admitted:
                say(f"run {trigger.id} of {trigger.action}: {error}")
            else:
                _reject(connection, error, final=False)

    def _supervision(self, journal: Journal, work: Work, connection: socket.socket, wakeup: Wakeup) -> Supervision:
        return Supervision(
            journal,
            work,
            locks=self.paths.locks,
            limit=self.config.output_limit,
            tell=lambda known: _tell(connection, Told(run=known)),
            perform=partial(execute, wakeup=wakeup),
            clock=self.clock,
        )

    def _tell_to_the_end(self, connection: socket.socket, journal: Journal, run: Run) -> None:
        """Tell of a run; while another process supervises it (the order came twice), until that one has ended it."""
        _tell(connection, Told(run=run))
        pause = _FIRST_LOOK
        while run.outcome is None and not _has_gone(connection, pause):
            pause = min(2 * pause, _LAST_LOOK)
            recover(journal, self.clock())
            latest = journal.find(run.id)
            if latest and (latest.outcome or latest.started != run.started):
                _tell(connection, Told(run=latest))
            run = latest or run


def read_request(connection: socket.socket) -> Request | None:
    """The request, None when the peer says nothing at all and goes. Raises `ProtocolError`."""
    until = time.monotonic() + PATIENCE
    header = _receive(connection, stream.HEADER, until)
    if not header:
        return None
    size = stream.length(header) if len(header) == stream.HEADER else 0
    if size > MAX_REQUEST:
        raise ProtocolError(f"runner request announces {size} bytes: at most {MAX_REQUEST} are accepted")
    body = _receive(connection, size, until)
    if not size or len(body) < size:
        raise ProtocolError(f"runner request breaks off after {len(header) + len(body)} bytes")
    return decode_request(body)


def _receive(connection: socket.socket, size: int, until: float) -> bytes:
    """At most ``size`` bytes, fewer when the peer stops."""
    data = b""
    while len(data) < size:
        connection.settimeout(max(_FIRST_LOOK, until - time.monotonic()))
        try:
            chunk = connection.recv(size - len(data))
        except TimeoutError:
            raise ProtocolError(f"runner request did not arrive within {PATIENCE:g} seconds") from None
        except OSError:
            break
        if not chunk:
            break
        data += chunk
    return data


def _tell(connection: socket.socket, reply: Reply) -> None:
    """Say it to a peer that may have gone or stopped listening; neither holds up a run."""
    connection.settimeout(PATIENCE)
    with suppress(OSError):
        connection.sendall(stream.encode(reply))


def _reject(connection: socket.socket, error: NanoexecError, *, final: bool) -> None:
    say(f"rejected: {error}")
    _tell(connection, Rejected(reason=str(error)[:MAX_REASON], final=final))


def _has_gone(connection: socket.socket, within: float) -> bool:
    """Whether the peer closes its end within that many seconds."""
    poller = select.poll()
    poller.register(connection, 0)  # a hang-up is always reported
    return bool(poller.poll(within * 1000))
