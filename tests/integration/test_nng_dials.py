"""Dials that come to nothing: they cost the hub no more than a handshake, and are over as soon as they have failed."""

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from nanoexec.model import Credentials
from nanoexec.transport import LinkLostError, Peer
from nanoexec.transport.nng import NngExchange, NngHubTransport, NngNodeTransport
from tests.support.fleet import free_ports
from tests.support.pki import Authority

pytestmark = pytest.mark.node

SOON = 10.0
AT_ONCE = 2.0  # seconds; a dial is given SOON, and takes milliseconds
HUB = "hub.example.org"
KEY = "0123456789abcdef"
ANYWHERE = "tls+tcp://127.0.0.1:0"
FEW = 5  # descriptors: what closes at the very end may still be open


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def play(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 90))


@contextlib.asynccontextmanager
async def hub(authority: Authority) -> AsyncIterator[NngExchange]:
    """One that lets nobody in but the certificate `KEY`."""

    async def respond(_: Peer, frame: bytes) -> bytes:
        return frame

    exchange = await NngHubTransport(ANYWHERE, ANYWHERE, authority.issue("hub", HUB)).serve(
        accept=lambda peer: peer.key == KEY, respond=respond, notice=lambda *_: None
    )
    try:
        yield exchange
    finally:
        await exchange.close()


def node(publish: int, report: int, badge: Credentials, hub_name: str = HUB) -> NngNodeTransport:
    return NngNodeTransport(f"tls+tcp://127.0.0.1:{publish}", f"tls+tcp://127.0.0.1:{report}", badge, hub_name)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.02)


async def ask(transport: NngNodeTransport) -> None:
    link = await transport.dial([b"ALL:"], SOON)
    try:
        await link.request(b"let me in", SOON)
    finally:
        await link.close()


async def refusal(transport: NngNodeTransport) -> str:
    """Why a node does not get in, and that it hears so at once."""
    began = time.monotonic()
    with pytest.raises(LinkLostError) as error:
        await ask(transport)
    assert time.monotonic() - began < AT_ONCE
    return str(error.value)


def test_a_revoked_node_that_dials_for_ever_leaves_the_hub_its_descriptors(authority: Authority) -> None:
    async def scene() -> None:
        async with hub(authority) as exchange:
            exchange._bar.close()  # it would hold up one in such a hurry
            revoked = node(exchange.publish_port, exchange.report_port, authority.issue("fedcba9876543210", "web1"))
            await refusal(revoked)
            before = descriptors()
            for _ in range(100):
                await refusal(revoked)
            await until(lambda: descriptors() <= before + FEW)
            assert 100 <= exchange.refused - 1 < 150, "it costs one handshake each time, not two"

    play(scene())


def test_dials_that_are_given_up_in_the_handshake_leave_the_hub_its_descriptors(authority: Authority) -> None:
    async def scene() -> None:
        dice = random.Random(1)  # noqa: S311 - moments, not keys
        async with hub(authority) as exchange:
            welcome = node(exchange.publish_port, exchange.report_port, authority.issue(KEY, "web1"))
            await (await welcome.dial([b"ALL:"], SOON)).close()
            before = descriptors()
            for _ in range(100):
                dialling = asyncio.create_task(welcome.dial([b"ALL:"], SOON))
                await asyncio.sleep(dice.uniform(0, 0.01))
                dialling.cancel()
                began = time.monotonic()
                with contextlib.suppress(asyncio.CancelledError):
                    await (await dialling).close()
                assert time.monotonic() - began < AT_ONCE
            assert asyncio.all_tasks() == {asyncio.current_task()}
            exchange.disconnect(KEY)  # those that were up, and whose end NNG has missed
            await until(lambda: descriptors() <= before + FEW)

    asyncio.run(scene())


def test_a_dial_where_nobody_listens_fails_at_once_and_says_so(authority: Authority) -> None:
    async def scene() -> None:
        badge = authority.issue(KEY, "web1")
        publish, report = free_ports(2)
        said = await refusal(node(publish, report, badge))
        assert said == f"tls+tcp://127.0.0.1:{report}: no connection: connection refused"
        async with hub(authority) as exchange:
            said = await refusal(node(publish, exchange.report_port, badge))
            assert said == f"tls+tcp://127.0.0.1:{publish}: no connection: connection refused"

    play(scene())


def test_a_dial_fails_at_once_where_one_end_does_not_trust_the_other(authority: Authority) -> None:
    async def scene() -> None:
        async with hub(authority) as exchange:
            ports, foreign = (exchange.publish_port, exchange.report_port), Authority("another CA")
            for distrusting in (
                node(*ports, authority.issue(KEY, "web1"), "other.example.org"),
                node(*ports, foreign.issue(KEY, "web1")),
            ):
                said = await refusal(distrusting)
                assert said == f"tls+tcp://127.0.0.1:{ports[1]}: no connection: one end does not trust the other"
            distrusted = node(*ports, foreign.issue(KEY, "web1", trust=authority))
            for _ in range(10):  # the hub's word on it may come after its end of the connection
                assert ": no connection: " in await refusal(distrusted)

    play(scene())


def test_a_dial_that_fails_otherwise_fails_at_once(authority: Authority) -> None:
    async def scene() -> None:
        url = "tls+tcp://no-such-host.invalid:4444"
        nowhere = NngNodeTransport(url, url, authority.issue(KEY, "web1"), HUB)
        assert await refusal(nowhere) == f"{url}: no connection: the dial failed"

    play(scene())


def test_a_dial_that_is_not_answered_lasts_as_long_as_it_may(authority: Authority) -> None:
    async def scene() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            with pytest.raises(LinkLostError, match=rf":{port}: no connection within 0\.5 s"):
                await node(port, port, authority.issue(KEY, "web1")).dial([b"ALL:"], 0.5)

    play(scene())


def test_the_other_port_is_dialled_only_once_the_first_has_answered(authority: Authority) -> None:
    async def scene() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as silent:
            other.setblocking(False)
            publish, report = (server.getsockname()[1] for server in (other, silent))
            with pytest.raises(LinkLostError, match=f":{report}: no connection within"):
                await node(publish, report, authority.issue(KEY, "web1")).dial([b"ALL:"], 0.3)
            with pytest.raises(BlockingIOError):
                other.accept()

    play(scene())
