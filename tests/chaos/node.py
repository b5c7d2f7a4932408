"""A machine with an agent and a runner: the agent's real service, the runner's real children, and a disk.

``boot`` names the time between two power cuts. What the agent keeps on disk is its cursor; the journal is a real file.
"""

import asyncio
import contextlib
import os
import pwd
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from nanoexec.actions import Catalog, Manifest, OnBusy
from nanoexec.agent.core import AgentCore
from nanoexec.agent.outbox import Outbox
from nanoexec.agent.service import Agent
from nanoexec.config import AgentConfig, Paths
from nanoexec.errors import NanoexecError
from nanoexec.model import Cause, Cursor, DeliveryState, Instant, Run, identifier
from nanoexec.runner import order
from nanoexec.runner.journal import Journal
from nanoexec.runner.process import Process as Identity
from nanoexec.runner.supervision import Supervision
from nanoexec.transport import Peer
from nanoexec.wire import stream
from nanoexec.wire.network import Ack, decode_trigger
from nanoexec.wire.runner import Cancel, Start, decode_request
from tests.chaos.child import Child, ChildService, WatchedJournal, pretend
from tests.chaos.hub_disk import DAY
from tests.chaos.loop import Process
from tests.chaos.pipes import Pipe, Socket
from tests.chaos.wires import NodeWire

if TYPE_CHECKING:
    from tests.chaos.world import World

NO_PID: Final = 5_000_000  # above what Linux ever gives (PID_MAX_LIMIT): a signal to a made-up process hits nobody
START: Final = 1_700_000_000.0
_USER: Final = pwd.getpwuid(os.geteuid()).pw_name
CONFIG: Final = AgentConfig(hub="hub", user=_USER, exec_user=_USER, allow_exec=True)
CATALOG: Final = Catalog(
    actions={
        name: Manifest(name=name, command=("/bin/true",), user=_USER, on_busy=on_busy, timeout=timeout)
        for name, on_busy, timeout in (
            ("puppet", OnBusy.COALESCE, "1h"),
            ("backup", OnBusy.REFUSE, "1h"),
            ("report", OnBusy.WAIT, "20s"),
        )
    },
    faults=(),
    sources={},
)


class Node:
    """One machine. ``off`` is by how much its wall clock is ahead of the world's, in seconds."""

    def __init__(self, world: "World", name: str, root: Path, off: float) -> None:
        self.world = world
        self.truth = world.truth
        self.name = name
        self.peer = Peer(name=name, key=name.ljust(16, "0"))
        self.paths = Paths(root=root)
        self.off = off
        self.far = False
        self.boot = f"{name}-boot-0"
        self.children: list[Child] = []
        self.runner_up = False
        self.runner_stopped = False
        self.socket_kept = name != "db1"  # by systemd, which starts the runner; else it has a socket of its own
        self.slow = False  # its disk: others come between a child and its commits
        self.death = ""  # where the next child dies: before a commit, or after it
        self.cursor = b""
        self.agent: Agent | None = None
        self.process = Process("nobody")
        self.wire = NodeWire(world, self)
        self._serving: asyncio.Task[Any] | None = None
        self._pipes: list[Pipe] = []
        self._backlog: list[tuple[Pipe, bytes]] = []  # of the runner's socket: who has called, and for what
        self._booted = 0.0
        self._pids = NO_PID
        for directory in (self.paths.journal.parent, self.paths.agent_state, self.paths.locks):
            directory.mkdir(parents=True)
        self.journal = Journal.open(self.paths.journal, identifier(world.new_bytes()))  # to look at, from outside

    def now(self) -> Instant:
        passed = self.world.loop.time()
        return Instant(wall=START + passed + self.off, steady=passed - self._booted)

    def move_clock(self, seconds: float) -> None:
        """Years ahead, a runner forgets at its start what no trigger caused, whether or not that was relayed."""
        self.off += seconds
        self.far = self.far or abs(seconds) > DAY

    # The agent

    def start_agent(self) -> None:
        """Start it, unless it is there."""
        if self.agent is not None:
            return
        self.process = Process(f"agent of {self.name}")
        core = AgentCore(name=self.name, verify=lambda _: None, cursor=self._read_cursor())
        core.outbox = WatchedOutbox(core.outbox.cursor, self._call_expired)
        self.agent = Agent(
            core,
            transport=self.wire,
            runner_socket=self.paths.runner_socket,
            journal=self.paths.journal,
            beacon=self.paths.beacon,
            save=lambda: self._save(core),
            tell_link=lambda _up, _since, _why: None,
            now=self.now,
            explain=_nothing,
            jitter=self.world.random,
        )
        self._serving = self.world.loop.create_task(self.agent.serve(), context=self.process.context())

    def kill_agent(self) -> None:
        """SIGKILL: memory and connections are gone."""
        self.agent = None
        self.process.alive = False
        for pipe in self._pipes:
            pipe.hung_up = True
        self._pipes.clear()
        self.wire.cut()

    def stop_agent(self) -> None:
        """SIGTERM: it says goodbye."""
        if self.agent is None or self._serving is None or self.process.stopped:
            return
        agent, serving = self.agent, self._serving

        async def stop() -> None:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            with contextlib.suppress(NanoexecError):
                await agent.stop()

        self.world.loop.create_task(stop(), context=self.process.context())
        self.world.loop.advance(2.0)
        if self.agent is agent:
            self.kill_agent()

    def _save(self, core: AgentCore) -> None:
        self.cursor = msgspec.json.encode(core.outbox.cursor)

    def _read_cursor(self) -> Cursor:
        return msgspec.json.decode(self.cursor, type=Cursor) if self.cursor else Cursor()

    # The runner

    def start_runner(self) -> None:
        """A new parent, beside the children of the old one; it settles what nobody answers for any more."""
        if self.runner_up:
            return
        self.runner_up = True
        self.world.loop.listeners[str(self.paths.runner_socket)] = self._connect
        Child(self, lambda child: self._serve(child, ChildService.maintain)).begin()
        self._accept()

    def kill_runner(self) -> None:
        """The parent dies; its children live on. Who has called waits for another, unless the socket dies, too."""
        self.runner_up = self.runner_stopped = False
        if not self.socket_kept:
            self._close_socket()

    def stop_runner(self) -> None:
        """As SIGSTOP does to the parent: whoever calls waits in its socket's backlog."""
        self.runner_stopped = True

    def resume_runner(self) -> None:
        """It goes on, and accepts all that have called, those too that have hung up since."""
        self.runner_stopped = False
        self._accept()

    def _close_socket(self) -> None:
        self.world.loop.listeners.pop(str(self.paths.runner_socket), None)
        backlog, self._backlog = self._backlog, []
        for pipe, _ in backlog:
            pipe.end()

    def run_locally(self, action: str) -> None:
        """What ``nanoexec-run`` does with the runner's code."""
        now = self.now().wall
        run = Run(id=self.world.new_id(), action=action, cause=Cause.LOCAL, by="root", requested=now)

        self.truth.wanted[self.name, run.id] = self.world.loop.time()
        self.truth.local.add(run.id)

        def work(child: Child) -> None:
            with WatchedJournal.open(self.paths.journal, identifier(self.world.new_bytes())) as journal:
                supervision = Supervision(
                    journal,
                    order.work(run, CATALOG.find(action), None),
                    locks=self.paths.locks,
                    limit=1024,
                    tell=lambda _: None,
                    clock=lambda: self.now().wall,
                )
                pretend(supervision, child, run)
                supervision.carry_out()

        Child(self, work).begin()

    def new_pid(self) -> int:
        self._pids += 1
        return self._pids

    def lives(self, identity: Identity) -> bool:
        """Whether that process of this machine is still there."""
        return any(child.identity == identity for child in self.children if not child.ended)

    def answers_for(self, identity: Identity, run: str) -> bool:
        """Whether the journal names this process as the one that answers for a run, which has not ended."""
        known = self.journal.find(run)
        return known is not None and (known.boot, known.supervisor, known.outcome) == (
            identity.boot,
            identity.pid,
            None,
        )

    def at_commit(self, child: Child, where: str) -> None:
        """A child is about to commit, or has just done so."""
        child.point()
        if self.slow:
            child.park(self.world.random.choice((0.0, 0.005, 0.02, 0.3)))
        if self.death == where:
            self.death = ""
            self.world.figures.count(f"death {where} a journal commit")
            child.die()

    def power_cut(self) -> None:
        """Everything on this machine ends at once. What comes up again has another boot's name."""
        self.kill_agent()
        self.kill_runner()
        self._close_socket()
        for child in tuple(self.children):
            child.kill()
        self.boot = f"{self.name}-boot-{self.world.new_number()}"
        self._booted = self.world.loop.time()

    def close(self) -> None:
        """The end of the world."""
        for child in tuple(self.children):
            child.kill()
        self.journal.close()

    def _connect(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        pipe = Pipe(self, protocol)
        self._pipes.append(pipe)
        protocol.connection_made(pipe)
        return pipe

    def call(self, pipe: Pipe, request: bytes) -> None:
        """An agent has said all that it wants of the runner."""
        wanted = decode_request(request[stream.HEADER :])
        if isinstance(wanted, Start):
            pipe.since = self._since("is handed over")
            self.truth.handed_over(self.name, decode_trigger(wanted.order.body).id, pipe.since)
        self._backlog.append((pipe, request))
        self._accept()

    def _call_expired(self, trigger: str) -> None:
        self.truth.call_expired(self.name, trigger, self._since(f"{trigger} is called expired"))

    def _since(self, what: str) -> float:
        """When the agent has asked what the hub's clock shows, of which it has heard the answer."""
        if self.wire.since is None:
            self.truth.broken.append(f"{what} on {self.name}, where nobody knows what time it is at the hub")
        return self.wire.since or 0.0

    def _accept(self) -> None:
        """The parent accepts and forks."""
        while self._backlog and self.runner_up and not self.runner_stopped:
            self._fork(*self._backlog.pop(0))

    def _fork(self, pipe: Pipe, request: bytes) -> None:
        socket: Any = Socket(pipe, request)
        wanted = decode_request(request[stream.HEADER :])

        def work(child: Child) -> None:
            child.since = pipe.since
            if isinstance(wanted, Cancel):
                child.run_id = wanted.trigger  # it answers for an id that it was the first to journal
            try:
                self._serve(child, lambda service: service.serve(socket))
            finally:
                self.world.loop.call_soon(pipe.end)

        Child(self, work).begin()

    def _serve(self, child: Child, task: Callable[[ChildService], object]) -> None:
        with ExitStack() as stack:
            task(
                ChildService(
                    paths=self.paths,
                    config=CONFIG,
                    catalog=CATALOG,
                    verify=lambda _keys, _body, _signature: None,
                    clock=lambda: self.now().wall,
                    steady=lambda: self.now().steady,
                    child=child,
                    stack=stack,
                )
            )


class WatchedOutbox(Outbox):
    """An agent's. What that calls expired is judged by what it knows now: to say so takes a while."""

    def __init__(self, cursor: Cursor, call_expired: Callable[[str], None]) -> None:
        super().__init__(cursor)
        self._call_expired = call_expired

    def ack(self, ack: Ack) -> None:
        if ack.state is DeliveryState.EXPIRED:
            self._call_expired(ack.trigger)
        super().ack(ack)


async def _nothing() -> str:
    return ""
