"""Connections that end without a word from NNG: the kernel is asked."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from nanoexec.transport import LOST, LinkLostError, Peer
from nanoexec.transport.nng import NngHubTransport, NngLink, NngNodeTransport, line, sockets
from tests.chaos.proxy import Proxy
from tests.support.fleet import free_ports
from tests.support.pki import Authority
from tests.support.unwatched import unwatch

pytestmark = pytest.mark.node

SOON = 10.0
OFTEN = 0.05  # seconds
HUB = "hub.example.org"


@pytest.fixture(autouse=True)
def _looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "LOOK_EVERY", OFTEN)


def play(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 60))


@contextlib.asynccontextmanager
async def linked() -> AsyncIterator[tuple[NngLink, Proxy]]:
    """A node's link to a hub, through a proxy."""
    authority = Authority()

    async def respond(_: Peer, frame: bytes) -> bytes:
        return frame

    anywhere = "tls+tcp://127.0.0.1:0"
    exchange = await NngHubTransport(anywhere, anywhere, authority.issue("hub", HUB)).serve(
        accept=lambda _: True, respond=respond, notice=lambda *_: None
    )
    publish, report = free_ports(2)
    try:
        with Proxy([], "127.0.0.1", (publish, exchange.publish_port), (report, exchange.report_port)) as proxy:
            urls = f"tls+tcp://127.0.0.1:{publish}", f"tls+tcp://127.0.0.1:{report}"
            link = await NngNodeTransport(*urls, authority.issue("0123456789abcdef", "web1"), HUB).dial([b"ALL:"], SOON)
            try:
                yield link, proxy
            finally:
                await link.close()
    finally:
        await exchange.close()


def ports(link: NngLink) -> list[int]:
    """The local ports of the line that hears and the line that asks."""
    pipes = [pipe for one in (link._hears, link._asks) for pipe in one._socket.pipes]
    return [socket.ntohs(pipe.local_address.port) for pipe in pipes]


@pytest.mark.parametrize("mute", [0, 1])
def test_a_reset_that_nng_does_not_tell_of_ends_the_link(mute: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both lines, of which one is not looked at, as if it had no connection of its own."""
    real, looked_at = sockets.connection, list[int]()

    def half(port: int) -> sockets.Connection | None:
        looked_at.append(port)
        return real(port) if len(looked_at) - 1 != mute else None

    async def scene() -> None:
        async with contextlib.AsyncExitStack() as stack:
            with monkeypatch.context() as patch:
                patch.setattr(sockets, "connection", half)
                link, proxy = await stack.enter_async_context(linked())
            for port in ports(link):
                unwatch(port)
            assert await asyncio.to_thread(proxy.tell, "reset") == 2
            with pytest.raises(LinkLostError, match=LOST):
                await link.receive()
            with pytest.raises(LinkLostError, match=LOST):
                await link.request(b"are you there?", SOON)

    play(scene())
    assert len(looked_at) == 2


def test_a_link_that_is_up_outlives_many_looks() -> None:
    async def scene() -> None:
        async with linked() as (link, _):
            for number in range(20):
                assert await link.request(b"%d" % number, SOON) == b"%d" % number
                await asyncio.sleep(OFTEN)

    play(scene())


def test_a_link_that_was_closed_is_looked_at_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []

    def broken(self: sockets.Connection) -> bool:
        looked_at.append(self.descriptor)
        return False

    monkeypatch.setattr(sockets.Connection, "broken", property(broken))

    async def scene() -> None:
        async with linked() as (link, _):
            await asyncio.sleep(10 * OFTEN)
            assert len(set(looked_at)) == 2
            await link.close()
            looked_at.clear()
            await asyncio.sleep(5 * OFTEN)

    play(scene())
    assert looked_at == []


def test_a_connection_that_its_owner_has_closed_is_not_called_broken() -> None:
    """For that is told, and the number of its descriptor may belong to another by now."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        found = sockets.connection(client.getsockname()[1])
        assert found is not None
        assert not found.broken
        number = client.detach()
        os.dup2(server.fileno(), number)
        assert not found.broken
        os.close(number)
        assert not found.broken


def test_where_nothing_is_connected_there_is_nothing_to_look_at() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert sockets.connection(server.getsockname()[1]) is None
