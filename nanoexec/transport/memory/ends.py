"""The two ends of a connection in memory.

A connection that one end closes during a partition is half open, as with TCP: the other end learns of it when, after
the partition, something that it sends finds nobody there.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from nanoexec.errors import ProtocolError
from nanoexec.transport import LOST, Accept, LinkLostError, Notice, Peer, Respond
from nanoexec.transport.limits import MAX_PUBLISHED, PUBLISH_QUEUE, RECEIVE_QUEUE
from nanoexec.transport.memory.faults import Faults
from nanoexec.transport.presence import Presence
from nanoexec.wire.network import MAX_FRAME

Arrive = Callable[[bytes], None]

log = logging.getLogger(__name__)


class MemoryExchange:
    """See `Exchange`. ``refused`` counts the connections that were turned away."""

    def __init__(self, faults: Faults, accept: Accept, respond: Respond, notice: Notice) -> None:
        self.refused = 0
        self.closed = False
        self._faults = faults
        self._accept = accept
        self._respond = respond
        self._loop = asyncio.get_running_loop()
        self._presence = Presence(notice)
        self._links: list[MemoryLink] = []
        self._tasks: dict[MemoryLink, asyncio.Task[None]] = {}

    async def publish(self, frame: bytes) -> None:
        if len(frame) > MAX_PUBLISHED:
            raise ProtocolError(f"published frame of {len(frame)} bytes: at most {MAX_PUBLISHED} may be sent")
        for link in self._links:
            link.publish(frame)

    def disconnect(self, key: str) -> None:
        for link in [link for link in self._links if link.peer.key == key]:
            self.hang_up(link)

    async def close(self) -> None:
        self.closed = True
        for link in list(self._links):
            self.hang_up(link)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    def sever(self, name: str) -> None:
        """Break a node's connections so that both ends notice."""
        for link in [link for link in self._links if link.peer.name == name]:
            self.part(link)
            link.end(LOST)

    def admit(self, peer: Peer, topics: Sequence[bytes]) -> "MemoryLink":
        """Let a node in, or raise `LinkLostError`."""
        try:
            welcome = self._accept(peer)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may come in because of it
            log.error("a connection was refused: the question who it is failed: %r", error)  # noqa: TRY400 - one line
            welcome = False
        if not welcome:
            self.refused += 1
            raise LinkLostError(f"memory: {LOST}")
        link = MemoryLink(self._faults, self, peer, tuple(topics))
        self._links.append(link)
        self._loop.call_soon(self._announce, link)
        return link

    def hang_up(self, link: "MemoryLink") -> None:
        """End a connection from here."""
        self.part(link)
        if self._faults.reaches(link.peer):
            link.end(LOST)

    def part(self, link: "MemoryLink") -> None:
        """A connection has ended."""
        if link in self._links:
            self._links.remove(link)
            if link.announced:
                self._loop.call_soon(self._change, link.peer, False)

    def hear(self, link: "MemoryLink", frame: bytes, answer: Arrive) -> None:
        """A request has arrived; ``answer`` sends one back. One at a time for each connection is answered."""
        if len(frame) > MAX_FRAME or link not in self._links:
            self.hang_up(link)
        elif link not in self._tasks:
            self._tasks[link] = self._loop.create_task(self._answer(link, frame, answer))

    async def _answer(self, link: "MemoryLink", frame: bytes, answer: Arrive) -> None:
        name = link.peer.name
        try:
            reply = await self._respond(link.peer, frame)
        except Exception as error:  # noqa: BLE001 - one bad request must not end the hub
            log.error("%s: no answer to its %d bytes: %r", name, len(frame), error)  # noqa: TRY400 - one line
            return
        finally:
            self._tasks.pop(link, None)
        if len(reply) > MAX_FRAME:
            log.error("%s: no answer, for it has %d bytes and at most %d are accepted", name, len(reply), MAX_FRAME)
        else:
            answer(reply)

    def _announce(self, link: "MemoryLink") -> None:
        if link in self._links:
            link.announced = True
            self._presence.change(link.peer, True)

    def _change(self, peer: Peer, up: bool) -> None:  # noqa: FBT001 - the shape of a Notice
        if not self.closed:
            self._presence.change(peer, up)


class MemoryLink:
    """See `Link`."""

    def __init__(self, faults: Faults, exchange: MemoryExchange, peer: Peer, topics: tuple[bytes, ...]) -> None:
        self.peer = peer
        self.announced = False
        self._faults = faults
        self._exchange = exchange
        self._topics = topics
        self._lost = ""
        self._heard: deque[bytes] = deque(maxlen=RECEIVE_QUEUE)
        self._news = asyncio.Event()
        self._reply: asyncio.Future[bytes] | None = None
        self._published = _Way(faults, peer, PUBLISH_QUEUE)
        self._asked = _Way(faults, peer)
        self._answered = _Way(faults, peer)

    async def receive(self) -> bytes:
        while True:
            self._check()
            if self._heard:
                return self._heard.popleft()
            self._news.clear()
            await self._news.wait()

    async def request(self, frame: bytes, within: float) -> bytes:
        self._check()
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._reply = reply

        def settle(answer: bytes) -> None:
            if not reply.done():
                reply.set_result(answer)

        self._asked.send(frame, lambda f: self._exchange.hear(self, f, lambda a: self._answered.send(a, settle)))
        try:
            async with asyncio.timeout(within):
                answer = await reply
        except TimeoutError:
            raise LinkLostError(f"memory: no answer within {within:.3g} s") from None
        self._check()
        return answer

    async def close(self) -> None:
        self.end("the link was closed")
        if self._faults.reaches(self.peer):
            self._exchange.part(self)

    def publish(self, frame: bytes) -> None:
        """Something is published; it goes to those whose topic it begins with."""
        if frame.startswith(self._topics):
            self._published.send(frame, self._hear)

    def end(self, reason: str) -> None:
        """Whoever waits hears ``reason``, also later."""
        self._lost = self._lost or reason
        self._news.set()
        if self._reply and not self._reply.done():
            self._reply.set_result(b"")

    def _check(self) -> None:
        if self._lost:
            raise LinkLostError(f"memory: {self._lost}")

    def _hear(self, frame: bytes) -> None:
        if self._lost:
            self._exchange.part(self)
        else:
            self._heard.append(frame)
            self._news.set()


class _Way:
    """One direction of a connection: frames under way, at most ``room`` of them; the oldest gives way."""

    def __init__(self, faults: Faults, peer: Peer, room: int | None = None) -> None:
        self._faults = faults
        self._peer = peer
        self._under_way: deque[tuple[bytes, Arrive]] = deque(maxlen=room)

    def send(self, frame: bytes, arrive: Arrive) -> None:
        if not self._faults.loses(self._peer, frame):
            self._under_way.append((frame, arrive))
            asyncio.get_running_loop().call_later(self._faults.latency(), self._next)

    def _next(self) -> None:
        """One frame's time has come. Which one, is the faults' to say: timers only count, so order is kept."""
        if self._under_way:
            index = self._faults.next_of(len(self._under_way))
            frame, arrive = self._under_way[index]
            del self._under_way[index]
            if self._faults.reaches(self._peer):
                arrive(frame)
