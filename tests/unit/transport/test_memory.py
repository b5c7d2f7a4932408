"""The faults of the network in memory: each does what it says, and a seed decides all of it."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from nanoexec.transport import LinkLostError, Peer
from nanoexec.transport.limits import PUBLISH_QUEUE
from nanoexec.transport.memory import MemoryExchange, MemoryLink, MemoryNetwork
from nanoexec.wire.network import MAX_FRAME

pytestmark = pytest.mark.node

WEB1 = Peer(name="web1", key="0123456789abcdef")
WEB2 = Peer(name="web2", key="fedcba9876543210")
SOON = 5.0
MOMENT = 0.02  # seconds that pass on the loop's clock before a request is given up


class Stage:
    """A network, its hub (which echoes), and what the hub was told."""

    def __init__(self, seed: int = 1) -> None:
        self.network = MemoryNetwork(Random(seed))  # noqa: S311 - dice, not keys
        self.notices: list[tuple[str, bool]] = []
        self.asked: list[bytes] = []
        self.exchange: MemoryExchange

    async def open(self) -> "Stage":
        self.exchange = await self.network.hub().serve(
            accept=lambda _: True,
            respond=self.respond,
            notice=lambda peer, up: self.notices.append((peer.name, up)),
        )
        return self

    async def respond(self, _: Peer, frame: bytes) -> bytes:
        self.asked.append(frame)
        return frame

    async def dial(self, peer: Peer = WEB1) -> MemoryLink:
        return await self.network.node(peer).dial([b"ALL:"], MOMENT)

    async def publish(self, count: int) -> None:
        for number in range(count):
            await self.exchange.publish(b"ALL:%d" % number)


def play(scene: Callable[[Stage], Awaitable[None]], seed: int = 1) -> None:
    async def run() -> None:
        stage = await Stage(seed).open()
        await asyncio.wait_for(scene(stage), SOON)
        await stage.exchange.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def heard(link: MemoryLink) -> list[int]:
    """Everything that is there to be read now, and arrives in the next moment."""
    numbers = []
    while True:
        try:
            async with asyncio.timeout(MOMENT):
                numbers.append(int((await link.receive()).removeprefix(b"ALL:")))
        except TimeoutError:
            return numbers


def test_without_faults_everything_arrives_in_order() -> None:
    async def scene(stage: Stage) -> None:
        link = await stage.dial()
        await stage.publish(100)
        assert await heard(link) == list(range(100))

    play(scene)


def test_a_burst_beyond_the_queue_drops_the_oldest() -> None:
    async def scene(stage: Stage) -> None:
        link = await stage.dial()
        await stage.publish(PUBLISH_QUEUE + 10)
        assert await heard(link) == list(range(10, PUBLISH_QUEUE + 10))

    play(scene)


def test_a_probability_loses_some_frames_and_the_same_seed_the_same_ones() -> None:
    runs: list[list[int]] = []

    async def scene(stage: Stage) -> None:
        link = await stage.dial()
        stage.network.drop(0.5)
        await stage.publish(100)
        runs.append(await heard(link))

    for seed in (1, 1, 2):
        play(scene, seed)
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert 20 < len(runs[0]) < 80
    assert runs[0] == sorted(runs[0])


def test_a_predicate_picks_what_is_lost() -> None:
    async def scene(stage: Stage) -> None:
        one, two = await stage.dial(WEB1), await stage.dial(WEB2)
        stage.network.drop(lambda peer, frame: peer == WEB1 and frame.endswith(b"1"))
        await stage.publish(3)
        assert await heard(one) == [0, 2]
        assert await heard(two) == [0, 1, 2]

    play(scene)


@pytest.mark.parametrize("lost", [b"question", b"answer"])
def test_a_lost_question_and_a_lost_answer_both_end_in_link_lost(lost: bytes) -> None:
    async def scene(stage: Stage) -> None:
        async def respond(_: Peer, frame: bytes) -> bytes:
            stage.asked.append(frame)
            return b"answer"

        await stage.exchange.close()
        stage.respond = respond  # type: ignore[method-assign]
        await stage.open()
        link = await stage.dial()
        stage.network.drop(lambda _, frame: frame == lost)
        with pytest.raises(LinkLostError, match="no answer"):
            await link.request(b"question", MOMENT)
        assert stage.asked == ([] if lost == b"question" else [b"question"])

    play(scene)


def test_delay_holds_frames_back_by_the_loops_clock_and_keeps_their_order() -> None:
    async def scene(stage: Stage) -> None:
        link = await stage.dial()
        stage.network.delay(0.001, 0.01)
        loop = asyncio.get_running_loop()
        before = loop.time()
        await stage.publish(50)
        numbers = [int((await link.receive()).removeprefix(b"ALL:")) for _ in range(50)]
        assert numbers == list(range(50))
        assert loop.time() - before >= 0.001

    play(scene)


def test_reorder_lets_frames_overtake_and_loses_none() -> None:
    async def scene(stage: Stage) -> None:
        link = await stage.dial()
        stage.network.reorder(0.5)
        await stage.publish(100)
        numbers = await heard(link)
        assert numbers != list(range(100))
        assert sorted(numbers) == list(range(100))

    play(scene)


def test_a_partition_is_silent_and_a_healed_link_carries_again() -> None:
    async def scene(stage: Stage) -> None:
        link, other = await stage.dial(WEB1), await stage.dial(WEB2)
        await turns()
        stage.network.partition("web1")
        await stage.publish(3)
        with pytest.raises(LinkLostError, match="no answer"):
            await link.request(b"into the void", MOMENT)
        assert stage.asked == []
        assert stage.notices == [("web1", True), ("web2", True)]
        assert await heard(other) == [0, 1, 2]
        with pytest.raises(LinkLostError, match="no connection"):
            await stage.dial(WEB1)
        stage.network.heal("web1")
        await stage.publish(1)
        assert await heard(link) == [0]
        assert await link.request(b"back", MOMENT) == b"back"

    play(scene)


def test_what_is_under_way_when_the_partition_begins_is_lost() -> None:
    async def scene(stage: Stage) -> None:
        link = await stage.dial()
        stage.network.delay(MOMENT / 4, MOMENT / 4)
        await stage.publish(1)
        stage.network.partition("web1")
        assert await heard(link) == []

    play(scene)


def test_a_hub_that_closes_during_a_partition_is_found_gone_when_asked_afterwards() -> None:
    async def scene(stage: Stage) -> None:
        link = await stage.dial()
        stage.network.partition("web1")
        await stage.exchange.close()
        await stage.open()
        stage.network.heal("web1")
        with pytest.raises(LinkLostError, match="was lost"):
            await link.request(b"are you still you", MOMENT)
        assert stage.asked == []

    play(scene)


def test_a_node_that_closes_during_a_partition_is_found_gone_at_the_next_publication() -> None:
    async def scene(stage: Stage) -> None:
        link = await stage.dial()
        await turns()
        stage.network.partition("web1")
        await link.close()
        await turns()
        assert stage.notices == [("web1", True)]
        stage.network.heal("web1")
        await stage.publish(1)
        await turns()
        assert stage.notices == [("web1", True), ("web1", False)]

    play(scene)


def test_sever_is_noticed_at_both_ends() -> None:
    async def scene(stage: Stage) -> None:
        link, other = await stage.dial(WEB1), await stage.dial(WEB2)
        await turns()
        stage.network.sever("web1")
        await turns()
        with pytest.raises(LinkLostError, match="was lost"):
            await link.receive()
        assert stage.notices == [("web1", True), ("web2", True), ("web1", False)]
        assert await other.request(b"x", MOMENT) == b"x"

    play(scene)


def test_a_frame_that_is_too_large_ends_the_link() -> None:
    async def scene(stage: Stage) -> None:
        link = await stage.dial()
        with pytest.raises(LinkLostError, match="was lost"):
            await link.request(bytes(MAX_FRAME + 1), MOMENT)
        assert stage.asked == []

    play(scene)
