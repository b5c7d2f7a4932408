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
from nanoexec.agent.service import Agent
from nanoexec.config import AgentConfig, Paths
from nanoexec.errors import NanoexecError
from nanoexec.model import Cause, Cursor, Instant, Run, identifier
from nanoexec.runner import order
from nanoexec.runner.journal import Journal
from nanoexec.runner.process import Process as Identity
from nanoexec.runner.supervision import Supervision
from nanoexec.transport import Peer
from nanoexec.wire import stream
from nanoexec.wire.network import decode_trigger
from nanoexec.wire.runner import Cancel, Start, decode_request
from tests.chaos.child import Child, ChildService, WatchedJournal, pretend
from tests.chaos.loop import PROCESS, Process
from tests.chaos.truth import DAY
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
        self.slow = False  # its disk: others come between a child and its commits
        self.death = ""  # where the next child dies: before a commit, or after it
        self.cursor = b""
        self.agent: Agent | None = None
        self.process = Process("nobody")
        self.wire = NodeWire(world, self)
        self._serving: asyncio.Task[Any] | None = None
        self._pipes: list[Pipe] = []
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

    def kill_runner(self) -> None:
        """The parent dies; its children live on."""
        self.runner_up = False
        self.world.loop.listeners.pop(str(self.paths.runner_socket), None)

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

    def accept(self, pipe: "Pipe", request: bytes) -> None:
        """The parent accepts and forks."""
        socket: Any = Socket(pipe, request)
        wanted = decode_request(request[stream.HEADER :])
        if isinstance(wanted, Start):
            self.truth.handed_over(self.name, decode_trigger(wanted.order.body).id, self.world.now().wall)

        def work(child: Child) -> None:
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
                    child=child,
                    stack=stack,
                )
            )


async def _nothing() -> str:
    return ""


class Pipe(asyncio.Transport):
    """The agent's end of a connection to the runner."""

    def __init__(self, node: Node, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.hung_up = False
        self._node = node
        self._protocol = protocol
        self._process = PROCESS.get()
        self._asked = b""
        self._over = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._asked += bytes(data)
        body = self._asked[stream.HEADER :]
        if len(self._asked) >= stream.HEADER and len(body) == stream.length(self._asked[: stream.HEADER]):
            if self._node.runner_up:
                self._node.world.in_nobodys_name(self._node.accept, self, self._asked)
            else:
                self._node.world.in_nobodys_name(self.end)

    def deliver(self, data: bytes) -> None:
        """The other end has sent something."""
        self._later(lambda: None if self._over else self._protocol.data_received(data))

    def end(self) -> None:
        """The other end has hung up."""
        self._later(self._end)

    def close(self) -> None:
        self.hung_up = True
        self._later(self._end)

    def is_closing(self) -> bool:
        return self.hung_up or self._over or self._node.world.loop.hung_up(self)

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        return default

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._protocol.eof_received()
            self._protocol.connection_lost(None)

    def _later(self, what: Callable[[], object]) -> None:
        context = self._process.context() if self._process is not None else None
        self._node.world.loop.call_soon(what, context=context)


class Socket:
    """The child's end, as far as a child uses a socket."""

    def __init__(self, pipe: Pipe, request: bytes) -> None:
        self._pipe = pipe
        self._request = request

    def settimeout(self, seconds: float) -> None:
        """Nothing here takes time."""

    def recv(self, size: int) -> bytes:
        data, self._request = self._request[:size], self._request[size:]
        return data

    def sendall(self, data: bytes) -> None:
        if self.gone():
            raise BrokenPipeError
        self._pipe.deliver(data)

    def gone(self) -> bool:
        """Whether the agent has closed its end, or is no more."""
        return self._pipe.is_closing()
