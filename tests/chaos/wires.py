"""Both transports of `transport/memory`, with what belongs to the network kept out of the processes' hands.

A frame that has set out arrives though its sender dies, and may arrive a second time. A process that dies hangs up.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from nanoexec.transport import Accept, Exchange, Link, Notice, Peer, Respond
from nanoexec.transport.memory import MemoryExchange, MemoryLink
from nanoexec.wire import network
from tests.chaos.loop import Process

if TYPE_CHECKING:
    import asyncio

    from tests.chaos.node import Node
    from tests.chaos.world import World

AT_ONCE: Final = 2.0  # seconds: an agent looks at least once a second whether there is anything to say
INTERVAL: Final = 15.0  # seconds between two hellos at most
ANSWER_WITHIN: Final = 25.0  # seconds; of an older answer an agent does not know what it is worth
_KEPT: Final = 40  # old frames that may come again


class HubWire:
    """The hub's side; see `HubTransport`."""

    def __init__(self, world: "World", process: Process) -> None:
        self._world = world
        self._process = process
        self._respond: Respond | None = None
        self.exchange: MemoryExchange | None = None

    async def serve(self, *, accept: Accept, respond: Respond, notice: Notice) -> Exchange:
        def noticed(peer: Peer, up: bool) -> None:  # noqa: FBT001 - the shape of a Notice
            self._world.loop.call_soon(notice, peer, up, context=self._process.context())

        self._respond = respond
        self.exchange = await self._world.network.hub().serve(accept=accept, respond=self.respond, notice=noticed)
        return ExchangeWire(self._world, self.exchange)

    async def respond(self, peer: Peer, frame: bytes) -> bytes:
        """Have the hub answer, in its own process."""
        answer: bytes = await self._world.loop.create_task(self._answer(peer, frame), context=self._process.context())
        return answer

    async def _answer(self, peer: Peer, frame: bytes) -> bytes:
        assert self._respond is not None
        return await self._respond(peer, frame)

    def cut(self) -> None:
        """The kernel closes the sockets of a dead hub."""
        if self.exchange is not None:
            self.exchange.closed = True
            self._world.in_nobodys_name(self._world.loop.create_task, self.exchange.close())


class ExchangeWire:
    """See `Exchange`."""

    def __init__(self, world: "World", exchange: MemoryExchange) -> None:
        self._world = world
        self._exchange = exchange
        self.publish_port, self.report_port, self.refused = 4444, 4445, 0

    async def publish(self, frame: bytes) -> None:
        self._world.keep_published(frame)
        self._world.in_nobodys_name(self._world.loop.create_task, self._exchange.publish(frame))

    def disconnect(self, key: str) -> None:
        self._exchange.disconnect(key)

    async def close(self) -> None:
        await self._exchange.close()


class NodeWire:
    """A node's side; see `NodeTransport`."""

    def __init__(self, world: "World", node: "Node") -> None:
        self._world = world
        self.node = node
        self._link: MemoryLink | None = None
        self._asked: list[bytes] = []
        self.mouth: LinkWire | None = None
        self.since: float | None = None  # what the hub's clock showed then or later, the agent knows: it has asked

    async def dial(self, topics: Sequence[bytes], within: float) -> Link:
        self._link = await self._world.network.node(self.node.peer).dial(topics, within)
        self.mouth = LinkWire(self._world, self, self._link)
        return self.mouth

    def cut(self) -> None:
        """The kernel closes the sockets of a dead agent."""
        if self._link is not None:
            self._world.in_nobodys_name(self._world.loop.create_task, self._link.close())
            self._link = self.mouth = None
        self.since = None

    def hear_again(self, frame: bytes) -> None:
        """A published frame, perhaps of a dead hub, comes once more; only on a link that has had its welcome."""
        if (
            self._link is not None
            and self.mouth is not None
            and self.mouth.welcomed
            and frame.startswith(self._link._topics)
        ):
            self._link._hear(frame)

    def ask_again(self, place: int) -> bool:
        """A question of this node, asked once before, comes to the hub again; nobody hears the answer."""
        wire = self._world.hub_wire
        if not self._asked or wire is None:
            return False
        frame = self._asked[place % len(self._asked)]
        self._world.in_nobodys_name(self._world.loop.create_task, wire.respond(self.node.peer, frame))
        return True

    def asked(self, frame: bytes) -> None:
        self._asked = [*self._asked[-_KEPT:], frame]


class LinkWire:
    """See `Link`. A node that hears of a new epoch must say hello at once: ``owed`` is since when it has not."""

    def __init__(self, world: "World", wire: NodeWire, link: MemoryLink) -> None:
        self._world = world
        self._wire = wire
        self._link = link
        self._epoch: str | None = None
        self._asking = False
        self._closed = False
        self._due: float | None = world.loop.time()  # when a hello is due in any case
        self._free = world.loop.time()  # since when nothing has been asked
        self.welcomed = False
        self.owed: float | None = None

    async def receive(self) -> bytes:
        frame = await self._link.receive()
        epoch = network.decode_published(frame).epoch
        if self._epoch not in (None, epoch) and not self._asking:
            self.owed = self._world.loop.time()
        self._epoch = epoch
        return frame

    async def request(self, frame: bytes, within: float) -> bytes:
        question = network.decode_question(frame)
        self._wire.asked(frame)
        if self.owed is not None and not isinstance(question, network.Hello | network.Bye):
            self._world.truth.broken.append("a node has heard of a new epoch, and does not say hello first")
        if not isinstance(question, network.Bye):
            self._world.truth.broken.extend(self.late())
        if isinstance(question, network.Hello):
            self._due = None
        self.owed, self._asking = None, True
        try:
            return await self._request(frame, within)
        finally:
            self._asking = False
            self._free = self._world.loop.time()

    def late(self) -> list[str]:
        """What this node, which is not stopped, ought to have said by now."""
        if self._closed or self._asking:
            return []
        late = self._world.loop.time() - max(self._free, self._wire.node.process.resumed) > AT_ONCE
        return [
            f"{self._wire.node.name} {why}, and has not said hello at once"
            for why, due in (("has heard of a new epoch", self.owed), ("is due with a hello", self._due))
            if late and due is not None and self._world.loop.time() - due > AT_ONCE
        ]

    async def _request(self, frame: bytes, within: float) -> bytes:
        asked = self._world.loop.time()
        task: asyncio.Task[Any] = self._world.in_nobodys_name(
            self._world.loop.create_task, self._link.request(frame, within)
        )
        answer: bytes = await task
        welcome = network.decode_answer(answer)
        if self._world.loop.time() - asked <= ANSWER_WITHIN:
            self._wire.since = asked
        if isinstance(welcome, network.Welcome):
            self._epoch = welcome.epoch
            self.welcomed = True
            self._due = self._world.loop.time() + INTERVAL
        return answer

    async def close(self) -> None:
        self._closed = True
        self.owed = None
        await self._link.close()
