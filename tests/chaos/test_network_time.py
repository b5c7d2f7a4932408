"""Silence and redialling in made-up time: the agent as it is, at every moment at which a network can fall silent."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import mean

import pytest

from nanoexec.agent.core import AgentCore
from nanoexec.agent.service import DIAL_WITHIN, LAST_BACKOFF, Agent
from nanoexec.errors import ProtocolError
from nanoexec.model import Cursor, Instant
from nanoexec.transport import Link, LinkLostError, NodeTransport, Peer
from nanoexec.transport.memory import MemoryNetwork
from nanoexec.wire import network
from tests.chaos.loop import VirtualLoop
from tests.chaos.network import NOTICED_WITHIN

DAY = 86400.0
INTERVAL = 15.0
PEER = Peer(name="web1", key="0" * 16)


class Unreachable:
    """A transport over which nobody is ever reached; a try takes ``seconds``. ``tries``: when each began."""

    def __init__(self, loop: VirtualLoop, seconds: float) -> None:
        self.tries: list[float] = []
        self._loop = loop
        self._seconds = seconds

    async def dial(self, topics: Sequence[bytes], within: float) -> Link:  # noqa: ARG002 - the shape of a transport
        assert within == DIAL_WITHIN
        self.tries.append(self._loop.time())
        done = self._loop.create_future()
        self._loop.call_later(self._seconds, done.set_result, None)
        await done
        raise LinkLostError("nobody")


class Life:
    """An agent on a loop whose time is made up, for so long as a test wants. ``links``: when each change was, and to
    what.
    """

    def __init__(self, loop: VirtualLoop, transport: NodeTransport, directory: Path, jitter: Random) -> None:
        self.links: list[tuple[float, bool]] = []
        agent = Agent(
            AgentCore(name=PEER.name, verify=lambda _: None, cursor=Cursor()),
            transport=transport,
            runner_socket=directory / "none.sock",
            journal=directory / "journal.db",
            beacon=directory / "beacon",
            save=lambda: None,
            tell_link=lambda up, _since, _why: self.links.append((loop.time(), up)),
            now=lambda: Instant(wall=loop.time(), steady=loop.time()),
            explain=_nothing,
            jitter=jitter,
        )
        loop.create_task(agent.serve())


async def _nothing() -> str:
    return ""


def dice(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - reproducible chance is what is wanted


def redials(directory: Path, seed: int, seconds: float, each: float = 0.0) -> list[float]:
    """When an agent dials in so many seconds in which nobody answers."""
    loop = VirtualLoop(dice(0), 0.0)
    try:
        transport = Unreachable(loop, each)
        Life(loop, transport, directory, dice(seed))
        loop.advance(seconds)
        assert loop.faults == []
        return transport.tries
    finally:
        loop.end()


def test_the_agent_redials_for_ever_with_pauses_spread_evenly_up_to_a_minute(tmp_path: Path) -> None:
    tries = redials(tmp_path, 1, 2 * DAY)
    pauses = [after - before for before, after in pairwise(tries)][6:]
    assert len(pauses) > 5000
    assert tries[-1] > 2 * DAY - LAST_BACKOFF
    assert max(pauses) <= LAST_BACKOFF
    assert mean(pauses) == pytest.approx(LAST_BACKOFF / 2, rel=0.05)
    tenths = [sum(LAST_BACKOFF * n / 10 <= pause < LAST_BACKOFF * (n + 1) / 10 for pause in pauses) for n in range(10)]
    assert all(0.08 < part / len(pauses) < 0.12 for part in tenths), tenths


def test_the_first_pauses_double_and_agents_that_fail_together_do_not_return_together(tmp_path: Path) -> None:
    fleet = [redials(tmp_path, seed, 300.0) for seed in range(200)]
    for number, most in enumerate([2.0, 4.0, 8.0, 16.0, 32.0, 60.0]):
        pauses = [tries[number + 1] - tries[number] for tries in fleet if len(tries) > number + 1]
        assert max(pauses) <= most
        assert mean(pauses) == pytest.approx(most / 2, rel=0.2)
        assert min(pauses) < most / 10
    seconds = [int(tries[3]) for tries in fleet]
    assert max(seconds.count(second) for second in seconds) < len(fleet) / 4  # handshakes in the busiest second


def test_nobody_is_dialled_while_a_dial_is_under_way(tmp_path: Path) -> None:
    tries = redials(tmp_path, 2, DAY, each=DIAL_WITHIN)
    assert min(after - before for before, after in pairwise(tries)) >= DIAL_WITHIN
    assert tries[-1] > DAY - LAST_BACKOFF - DIAL_WITHIN


def kind_of(frame: bytes) -> str:
    """Published frames begin with a topic; the others with a version."""
    if frame.startswith((network.TOPIC_ALL, network.TOPIC_HUB, network.topic_of(PEER.name))):
        return "publication"
    try:
        network.decode_question(frame)
    except ProtocolError:
        return "answer"
    return "question"


def noticed_after(directory: Path, cut: float, lost: frozenset[str]) -> float:
    """How long an agent takes to notice that from ``cut`` on frames of these kinds are lost."""
    loop = VirtualLoop(dice(0), 0.0)
    net = MemoryNetwork(dice(0))

    async def respond(_: Peer, frame: bytes) -> bytes:
        if isinstance(network.decode_question(frame), network.Hello):
            return network.encode(
                network.Welcome(node=PEER.name, epoch="e1", sequence=0, time=loop.time(), interval=INTERVAL)
            )
        return network.encode(network.Received(time=loop.time()))

    async def serve() -> None:
        exchange = await net.hub().serve(accept=lambda _: True, respond=respond, notice=lambda _peer, _up: None)

        def beacon() -> None:
            said = network.Beacon(epoch="e1", sequence=0, time=loop.time(), interval=INTERVAL)
            loop.create_task(exchange.publish(network.publish(network.TOPIC_HUB, said)))
            loop.call_later(INTERVAL, beacon)

        beacon()

    def loses(_: Peer, frame: bytes) -> bool:
        return loop.time() >= cut and kind_of(frame) in lost

    try:
        loop.create_task(serve())
        loop.advance(0.1)
        net.drop(loses)
        net.delay(0.05, 0.5)
        life = Life(loop, net.node(PEER), directory, dice(0))
        loop.advance(cut + 3 * NOTICED_WITHIN)
        assert any(up for _, up in life.links)
        return next((when - cut for when, up in life.links if not up and when > cut), float("inf"))
    finally:
        loop.end()


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param({"question", "answer", "publication"}, id="both ways"),
        pytest.param({"answer", "publication"}, id="to the node"),
        pytest.param({"question"}, id="to the hub"),
        pytest.param({"publication"}, id="publications alone"),
    ],
)
def test_an_agent_notices_silence_in_time_whenever_it_begins(tmp_path: Path, lost: set[str]) -> None:
    after = {cut: noticed_after(tmp_path, 100.0 + cut, frozenset(lost)) for cut in range(int(INTERVAL) + 1)}
    assert {cut: seconds for cut, seconds in after.items() if seconds > NOTICED_WITHIN} == {}
