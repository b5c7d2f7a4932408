"""What every transport promises. The same tests run over NNG with mutual TLS, NNG on ipc, and in memory."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest

from nanoexec.errors import ProtocolError, UnavailableError
from nanoexec.model import identifier
from nanoexec.transport import Exchange, HubTransport, Link, LinkLostError, NodeTransport, Peer
from nanoexec.transport.memory import MemoryNetwork
from nanoexec.transport.nng import NngHubTransport, NngNodeTransport
from nanoexec.wire.network import MAX_FRAME
from tests.support.pki import Authority

pytestmark = pytest.mark.node

SOON = 10.0  # seconds; a deadline, not a pause
HUB = "hub.example.org"


def peer(name: str, number: int = 0) -> Peer:
    return Peer(name=name, key=identifier(sha256(f"{name} {number}".encode()).digest()))


WEB1 = peer("web1")


class Rig:
    """A hub and nodes over one transport. The hub echoes with the asker's name unless ``respond`` is replaced."""

    named = True  # whether the transport tells one node from another

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.heard: list[tuple[str, bytes]] = []
        self.notices: list[tuple[str, bool]] = []
        self.respond: Callable[[Peer, bytes], Awaitable[bytes]] = self.echo
        self.accept: Callable[[Peer], bool] = lambda who: who.key not in self.refused
        self.exchange: Exchange | None = None
        self.links: list[Link] = []

    def hub(self) -> HubTransport:
        raise NotImplementedError

    def node(self, who: Peer) -> NodeTransport:
        raise NotImplementedError

    async def echo(self, who: Peer, frame: bytes) -> bytes:
        return who.name.encode() + b" said " + frame

    async def serve(self) -> Exchange:
        async def respond(who: Peer, frame: bytes) -> bytes:
            self.heard.append((who.name, frame))
            return await self.respond(who, frame)

        self.exchange = await self.hub().serve(
            accept=self.accept,
            respond=respond,
            notice=lambda who, up: self.notices.append((who.name, up)),
        )
        return self.exchange

    async def dial(self, who: Peer = WEB1, *more: bytes) -> Link:
        link = await self.node(who).dial([b"ALL:", who.name.encode() + b":", *more], SOON)
        self.links.append(link)
        return link

    async def hearing(self, who: Peer = WEB1, *more: bytes) -> Link:
        """A link whose doorbell works: the hub has been told of it, and it has heard something."""
        link = await self.dial(who, b"check:", *more)
        assert self.exchange
        while True:
            await self.exchange.publish(b"check:")
            try:
                async with asyncio.timeout(0.05):
                    await link.receive()
                    return link
            except TimeoutError:
                continue

    async def close(self) -> None:
        for link in self.links:
            await link.close()
        if self.exchange:
            await self.exchange.close()


class MemoryRig(Rig):
    def __init__(self) -> None:
        super().__init__()
        self.network = MemoryNetwork(Random(1))  # noqa: S311 - dice, not keys

    def hub(self) -> HubTransport:
        return self.network.hub()

    def node(self, who: Peer) -> NodeTransport:
        return self.network.node(who)


class IpcRig(Rig):
    named = False

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._urls = f"ipc://{directory}/publish", f"ipc://{directory}/report"

    def hub(self) -> HubTransport:
        return NngHubTransport(*self._urls, None, anonymous=WEB1)

    def node(self, who: Peer) -> NodeTransport:  # noqa: ARG002 - ipc cannot tell
        return NngNodeTransport(*self._urls, None, HUB)


class TlsRig(Rig):
    def __init__(self) -> None:
        super().__init__()
        self.authority = Authority()
        self.ports = (0, 0)

    def hub(self) -> HubTransport:
        return NngHubTransport(*self._urls(), self.authority.issue("hub", HUB))

    def node(self, who: Peer) -> NodeTransport:
        return NngNodeTransport(*self._urls(), self.authority.issue(who.key, who.name), HUB)

    async def serve(self) -> Exchange:
        exchange = await super().serve()
        self.ports = (exchange.publish_port, exchange.report_port)  # type: ignore[attr-defined]
        return exchange

    def _urls(self) -> tuple[str, str]:
        return f"tls+tcp://127.0.0.1:{self.ports[0]}", f"tls+tcp://127.0.0.1:{self.ports[1]}"


@pytest.fixture(params=["memory", "ipc", "tls"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    makers: dict[str, Callable[[], Rig]] = {"memory": MemoryRig, "ipc": lambda: IpcRig(tmp_path), "tls": TlsRig}
    return makers[request.param]()


@pytest.fixture
def named_rig(rig: Rig) -> Rig:
    if not rig.named:
        pytest.skip("ipc has no certificates to tell nodes apart")
    return rig


def play(rig: Rig, scene: Coroutine[Any, Any, None]) -> None:
    """Run a scene, and clean up after it."""

    async def run() -> None:
        try:
            await asyncio.wait_for(scene, 60)
        finally:
            await rig.close()

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.005)


async def next_frame(link: Link, wanted: Callable[[bytes], bool] = lambda frame: frame != b"check:") -> bytes:
    async with asyncio.timeout(SOON):
        while not wanted(frame := await link.receive()):
            pass
    return frame


async def dial_and_ask(rig: Rig, who: Peer = WEB1) -> bytes:
    link = await rig.dial(who)
    return await link.request(b"let me in", SOON)


async def dial_and_hear(rig: Rig) -> bytes:
    link = await rig.dial()
    assert rig.exchange
    await rig.exchange.publish(b"ALL:secret")
    return await asyncio.wait_for(link.receive(), SOON)


async def lost(link: Link) -> None:
    """Both ways of using the link say that it is lost, and soon."""
    with pytest.raises(LinkLostError):
        await next_frame(link, lambda _: False)
    with pytest.raises(LinkLostError):
        await link.request(b"anyone there", SOON)


def test_requests_may_follow_each_other_without_a_pause(rig: Rig) -> None:
    async def scene() -> None:
        await rig.serve()
        links = [await rig.dial() for _ in range(3)]

        async def ask(link: Link) -> None:
            for number in range(300):
                assert await link.request(str(number).encode(), SOON)

        await asyncio.gather(*map(ask, links))

    play(rig, scene())


def test_a_request_is_answered_and_carries_the_name_of_its_certificate(rig: Rig) -> None:
    async def scene() -> None:
        await rig.serve()
        link = await rig.dial()
        assert await link.request(b"hello", SOON) == b"web1 said hello"
        assert await link.request(b"again", SOON) == b"web1 said again"

    play(rig, scene())


def test_a_node_hears_its_topics_and_no_others(rig: Rig) -> None:
    async def scene() -> None:
        exchange = await rig.serve()
        link = await rig.hearing()
        for frame in (b"web10:not for me", b"web:nor this", b"hub:nor this", b"ALL:for all", b"web1:mine", b"ALL:end"):
            await exchange.publish(frame)
        heard = []
        while b"ALL:end" not in heard:
            heard.append(await asyncio.wait_for(link.receive(), SOON))
        assert [frame for frame in heard if frame != b"check:"] == [b"ALL:for all", b"web1:mine", b"ALL:end"]

    play(rig, scene())


def test_web1_and_web10_each_hear_their_own(named_rig: Rig) -> None:
    async def scene() -> None:
        exchange = await named_rig.serve()
        web1, web10 = await named_rig.hearing(peer("web1")), await named_rig.hearing(peer("web10"))
        await exchange.publish(b"web1:one")
        await exchange.publish(b"web10:ten")
        assert await next_frame(web1) == b"web1:one"
        assert await next_frame(web10) == b"web10:ten"

    play(named_rig, scene())


def test_two_keys_of_one_name_are_two_peers(named_rig: Rig) -> None:
    async def scene() -> None:
        named_rig.refused.add(peer("web1", 1).key)
        await named_rig.serve()
        new = await named_rig.dial(peer("web1", 2))
        assert await new.request(b"x", SOON) == b"web1 said x"
        with pytest.raises(LinkLostError):
            await dial_and_ask(named_rig, peer("web1", 1))
        assert await new.request(b"y", SOON) == b"web1 said y"

    play(named_rig, scene())


def test_a_peer_that_is_not_accepted_hears_and_says_nothing(rig: Rig) -> None:
    async def scene() -> None:
        rig.refused.add(WEB1.key)
        exchange = await rig.serve()
        with pytest.raises(LinkLostError):
            await dial_and_hear(rig)
        with pytest.raises(LinkLostError):
            await dial_and_ask(rig)
        assert rig.heard == []
        assert rig.notices == []
        assert exchange.refused >= 1  # type: ignore[attr-defined]

    play(rig, scene())


def test_an_accept_that_raises_lets_nobody_in(rig: Rig) -> None:
    async def scene() -> None:
        def accept(_: Peer) -> bool:
            raise ValueError("the roster is broken")

        rig.accept = accept
        await rig.serve()
        with pytest.raises(LinkLostError):
            await dial_and_ask(rig)

    play(rig, scene())


def test_the_hub_is_told_when_a_peer_can_hear_and_when_no_longer(rig: Rig) -> None:
    async def scene() -> None:
        await rig.serve()
        link = await rig.dial()
        await until(lambda: rig.notices == [("web1", True)])
        await link.close()
        await until(lambda: rig.notices == [("web1", True), ("web1", False)])

    play(rig, scene())


def test_a_peer_that_dials_anew_before_its_old_link_ends_stays_up(rig: Rig) -> None:
    async def scene() -> None:
        await rig.serve()
        old = await rig.hearing()
        new = await rig.hearing()
        await old.close()
        assert await new.request(b"x", SOON) == b"web1 said x"
        assert rig.notices == [("web1", True)]
        await new.close()
        await until(lambda: rig.notices == [("web1", True), ("web1", False)])

    play(rig, scene())


def test_disconnect_ends_the_links_of_that_key_at_once_and_of_no_other(named_rig: Rig) -> None:
    async def scene() -> None:
        exchange = await named_rig.serve()
        web1, web2 = await named_rig.hearing(peer("web1")), await named_rig.hearing(peer("web2"))
        named_rig.refused.add(peer("web1").key)
        exchange.disconnect(peer("web1").key)
        await lost(web1)
        assert await web2.request(b"x", SOON) == b"web2 said x"
        await until(lambda: ("web1", False) in named_rig.notices)
        assert ("web2", False) not in named_rig.notices

    play(named_rig, scene())


def test_what_a_revoked_peer_asks_while_being_disconnected_is_not_heard(rig: Rig) -> None:
    async def scene() -> None:
        exchange = await rig.serve()
        link = await rig.dial()
        assert await link.request(b"before", SOON) == b"web1 said before"
        asking = asyncio.create_task(link.request(b"after", SOON))
        exchange.disconnect(WEB1.key)
        with pytest.raises(LinkLostError):
            await asking
        assert rig.heard == [("web1", b"before")]

    play(rig, scene())


def test_disconnect_of_an_unknown_key_is_nothing(rig: Rig) -> None:
    async def scene() -> None:
        exchange = await rig.serve()
        link = await rig.dial()
        exchange.disconnect("0123456789abcdef")
        assert await link.request(b"x", SOON) == b"web1 said x"

    play(rig, scene())


def test_fifty_nodes_ask_at_once_and_each_gets_its_own_answer(rig: Rig) -> None:
    async def scene() -> None:
        together = asyncio.Event()
        waiting = 0

        async def respond(who: Peer, frame: bytes) -> bytes:
            nonlocal waiting
            waiting += 1
            if waiting == 50:
                together.set()
            await together.wait()  # nobody is answered before everybody has asked
            return who.name.encode() + b" " + frame

        rig.respond = respond
        await rig.serve()
        peers = [peer(f"n{number:02}") if rig.named else WEB1 for number in range(50)]
        links = await asyncio.gather(*(rig.dial(who) for who in peers))
        answers = await asyncio.gather(*(link.request(b"%d" % i, SOON) for i, link in enumerate(links)))
        assert answers == [who.name.encode() + b" %d" % number for number, who in enumerate(peers)]

    play(rig, scene())


def test_a_frame_of_the_largest_size_goes_both_ways_and_down(rig: Rig) -> None:
    async def scene() -> None:
        large = bytes(MAX_FRAME)

        async def mirror(_: Peer, frame: bytes) -> bytes:
            return frame

        rig.respond = mirror
        exchange = await rig.serve()
        link = await rig.hearing()
        assert await link.request(large, SOON) == large
        await exchange.publish(b"web1:" + large)
        assert await next_frame(link) == b"web1:" + large

    play(rig, scene())


def test_a_request_that_is_too_large_costs_its_sender_the_link_and_nobody_else(rig: Rig) -> None:
    async def scene() -> None:
        await rig.serve()
        rude, other = await rig.dial(), await rig.dial()
        with pytest.raises(LinkLostError):
            await rude.request(bytes(MAX_FRAME + 1024), SOON)
        await lost(rude)
        assert rig.heard == []
        assert await other.request(b"x", SOON) == b"web1 said x"

    play(rig, scene())


def test_a_publication_that_is_too_large_is_refused_before_it_makes_every_node_hang_up(rig: Rig) -> None:
    async def scene() -> None:
        exchange = await rig.serve()
        link = await rig.dial()
        with pytest.raises(ProtocolError, match="at most"):
            await exchange.publish(b"ALL:" + bytes(MAX_FRAME + 1024))
        assert await link.request(b"x", SOON) == b"web1 said x"

    play(rig, scene())


def test_an_answer_that_is_too_large_is_not_sent_and_the_hub_lives_on(rig: Rig) -> None:
    async def scene() -> None:
        async def respond(who: Peer, frame: bytes) -> bytes:
            return bytes(MAX_FRAME + 1) if frame == b"much" else await rig.echo(who, frame)

        rig.respond = respond
        await rig.serve()
        link = await rig.dial()
        with pytest.raises(LinkLostError):
            await link.request(b"much", 0.3)
        again = await rig.dial()
        assert await again.request(b"x", SOON) == b"web1 said x"

    play(rig, scene())


def test_an_answer_that_fails_leaves_its_asker_without_one_and_the_hub_serving(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async def respond(who: Peer, frame: bytes) -> bytes:
            if frame == b"bad":
                raise ValueError("what is this")
            return await rig.echo(who, frame)

        rig.respond = respond
        await rig.serve()
        link = await rig.dial()
        with pytest.raises(LinkLostError, match="no answer within"):
            await link.request(b"bad", 0.2)
        assert await link.request(b"good", SOON) == b"web1 said good"

    play(rig, scene())
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("nanoexec")]
    assert len(lines) == 1
    assert "web1" in lines[0]
    assert "\n" not in lines[0]


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(rig: Rig) -> None:
    async def scene() -> None:
        late = asyncio.Event()

        async def respond(_: Peer, frame: bytes) -> bytes:
            if frame == b"slow":
                await late.wait()
            return b"answer to " + frame

        rig.respond = respond
        await rig.serve()
        link = await rig.dial()
        with pytest.raises(LinkLostError):
            await link.request(b"slow", 0.1)
        late.set()
        await until(lambda: len(rig.heard) == 1)
        assert await link.request(b"quick", SOON) == b"answer to quick"

    play(rig, scene())


def test_a_cancelled_wait_loses_no_frame(rig: Rig) -> None:
    async def scene() -> None:
        exchange = await rig.serve()
        link = await rig.hearing()
        await exchange.publish(b"ALL:start")
        await next_frame(link, lambda frame: frame == b"ALL:start")
        for number in range(20):
            waiting = asyncio.create_task(link.receive())
            await asyncio.sleep(0)
            await exchange.publish(b"ALL:%d" % number)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert await next_frame(link) == b"ALL:%d" % number

    play(rig, scene())


def test_the_end_of_the_exchange_ends_every_link_while_it_waits(rig: Rig) -> None:
    async def scene() -> None:
        asked = asyncio.Event()

        async def respond(_who: Peer, _frame: bytes) -> bytes:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

        rig.respond = respond
        exchange = await rig.serve()
        link = await rig.dial()
        hearing = asyncio.create_task(link.receive())
        asking = asyncio.create_task(link.request(b"x", SOON))
        await asyncio.wait_for(asked.wait(), SOON)
        before = time.monotonic()
        await exchange.close()
        for waiting in (hearing, asking):
            with pytest.raises(LinkLostError):
                await waiting
        assert time.monotonic() - before < 5
        await lost(link)

    play(rig, scene())


def test_dialling_where_nobody_listens_fails_at_once_and_says_so(rig: Rig) -> None:
    async def scene() -> None:
        exchange = await rig.serve()
        await exchange.close()
        before = time.monotonic()
        with pytest.raises(LinkLostError, match="no connection: connection refused"):
            await rig.node(WEB1).dial([b"ALL:"], SOON)
        assert time.monotonic() - before < SOON / 3

    play(rig, scene())


def test_a_hub_can_be_served_again_at_the_same_address(rig: Rig) -> None:
    async def scene() -> None:
        first = await rig.serve()
        await rig.dial()
        await first.close()
        await rig.serve()
        link = await rig.dial()
        assert await link.request(b"x", SOON) == b"web1 said x"

    play(rig, scene())


def test_a_second_hub_at_the_same_address_is_told_that_it_is_in_use(rig: Rig) -> None:
    async def scene() -> None:
        await rig.serve()
        with pytest.raises(UnavailableError, match="in use"):
            await rig.hub().serve(accept=lambda _: True, respond=rig.echo, notice=lambda *_: None)
        link = await rig.dial()
        assert await link.request(b"x", SOON) == b"web1 said x"

    play(rig, scene())


def test_publishing_never_waits_for_a_reader_that_does_not_read(rig: Rig) -> None:
    async def scene() -> None:
        exchange = await rig.serve()
        lazy, keen = await rig.hearing(), await rig.hearing()
        before = time.monotonic()
        for _ in range(2000):
            await exchange.publish(b"ALL:" + bytes(10_000))
        assert time.monotonic() - before < 5
        await exchange.publish(b"ALL:last")
        await next_frame(keen, lambda frame: frame == b"ALL:last")  # the oldest were dropped, the newest is there
        assert await lazy.request(b"x", SOON) == b"web1 said x"

    play(rig, scene())


def test_everything_may_be_closed_twice_and_a_closed_link_says_so(rig: Rig) -> None:
    async def scene() -> None:
        exchange = await rig.serve()
        link = await rig.dial()
        await link.close()
        await link.close()
        with pytest.raises(LinkLostError, match="closed"):
            await link.receive()
        with pytest.raises(LinkLostError, match="closed"):
            await link.request(b"x", SOON)
        await exchange.close()
        await exchange.close()
        await exchange.publish(b"ALL:to nobody")

    play(rig, scene())
