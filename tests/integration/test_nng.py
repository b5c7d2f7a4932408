"""What only real certificates, ports and foreign bytes can show about the NNG transport."""

import asyncio
import random
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self

import msgspec
import pynng
import pytest

from nanoexec.errors import IdentityError, UnavailableError
from nanoexec.model import Credentials
from nanoexec.transport import LinkLostError, Peer
from nanoexec.transport.nng import NngExchange, NngHubTransport, NngNodeTransport, tls
from nanoexec.transport.nng.gate import CONNECTIONS
from tests.support.pki import DAY, Authority

pytestmark = pytest.mark.node

SOON = 10.0
REFUSED = 0.5  # seconds that a dial is given which cannot succeed
HUB = "hub.example.org"
KEY = "0123456789abcdef"
ANYWHERE = "tls+tcp://127.0.0.1:0"


class Hub:
    """A hub on free ports with its own CA; it counts who it let in and echoes."""

    def __init__(self, authority: Authority, credentials: Credentials | None = None) -> None:
        self.authority = authority
        self.credentials = credentials or authority.issue("hub", HUB)
        self.accepted: list[Peer] = []
        self.roster: set[str] | None = None
        self.exchange: NngExchange

    async def __aenter__(self) -> Self:
        transport = NngHubTransport(ANYWHERE, ANYWHERE, self.credentials)
        self.exchange = await transport.serve(accept=self.accept, respond=self.respond, notice=lambda *_: None)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.exchange.close()

    def accept(self, peer: Peer) -> bool:
        if self.roster is None or peer.key in self.roster:
            self.accepted.append(peer)
            return True
        return False

    async def respond(self, peer: Peer, frame: bytes) -> bytes:
        return peer.name.encode() + b" said " + frame

    def node(self, credentials: Credentials, hub_name: str = HUB) -> NngNodeTransport:
        exchange = self.exchange
        return NngNodeTransport(
            f"tls+tcp://127.0.0.1:{exchange.publish_port}",
            f"tls+tcp://127.0.0.1:{exchange.report_port}",
            credentials,
            hub_name,
        )

    async def still_serves(self) -> None:
        """A genuine node gets in and gets an answer, and soon."""
        link = await self.node(self.authority.issue(KEY, "web1")).dial([b"ALL:"], SOON)
        try:
            assert await link.request(b"x", SOON) == b"web1 said x"
        finally:
            await link.close()


def play(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 90))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def stranger() -> Authority:
    return Authority("another CA")


@pytest.mark.parametrize(
    "badge",
    [
        pytest.param(lambda ours, theirs: theirs.issue(KEY, "web1", trust=ours), id="signed by a foreign CA"),
        pytest.param(lambda ours, _: Credentials(ca=ours.pem), id="no certificate"),
        pytest.param(lambda ours, _: ours.issue(KEY, "web1", valid_from=-2 * DAY, valid_for=DAY), id="expired"),
        pytest.param(lambda ours, _: ours.issue(KEY, "web1", valid_from=DAY), id="not valid yet"),
        pytest.param(lambda ours, theirs: ours.issue(KEY, "web1", trust=theirs), id="trusts a foreign CA"),
        pytest.param(lambda ours, _: ours.issue(KEY), id="names no node"),
        pytest.param(lambda ours, _: ours.issue(KEY, "web1", "web2"), id="names two nodes"),
        pytest.param(lambda ours, _: ours.issue(KEY, "../../web1"), id="names what is no node name"),
        pytest.param(lambda ours, _: ours.issue("hub", HUB), id="is the hub's own"),
        pytest.param(lambda ours, _: ours.issue("", "web1"), id="has no id"),
    ],
)
def test_a_certificate_that_is_not_a_nodes_own_does_not_get_in(
    authority: Authority, stranger: Authority, badge: Callable[[Authority, Authority], Credentials]
) -> None:
    async def scene() -> None:
        async with Hub(authority) as hub:
            with pytest.raises(LinkLostError):
                await ask_as(hub, badge(authority, stranger))
            assert hub.accepted == []
            await hub.still_serves()

    play(scene())


async def ask_as(hub: Hub, credentials: Credentials, hub_name: str = HUB) -> None:
    link = await hub.node(credentials, hub_name).dial([b"ALL:"], REFUSED)
    try:
        await link.request(b"let me in", SOON)
    finally:
        await link.close()


def test_a_hub_that_cannot_prove_its_name_is_not_trusted(authority: Authority) -> None:
    async def scene() -> None:
        async with Hub(authority) as hub:
            with pytest.raises(LinkLostError, match="no connection"):
                await ask_as(hub, authority.issue(KEY, "web1"), "other.example.org")
            assert hub.accepted == []

    play(scene())


def test_a_hub_with_an_expired_certificate_is_not_trusted(authority: Authority) -> None:
    async def scene() -> None:
        expired = authority.issue("hub", HUB, valid_from=-2 * DAY, valid_for=DAY)
        async with Hub(authority, expired) as hub:
            with pytest.raises(LinkLostError, match="no connection"):
                await ask_as(hub, authority.issue(KEY, "web1"))

    play(scene())


def test_credentials_that_are_no_pem_are_an_identity_error() -> None:
    async def scene() -> None:
        rubbish = Credentials(ca="rubbish", certificate="rubbish", key="rubbish")
        with pytest.raises(IdentityError, match="PEM"):
            await NngNodeTransport(ANYWHERE, ANYWHERE, rubbish, HUB).dial([b"ALL:"], SOON)
        transport = NngHubTransport(ANYWHERE, ANYWHERE, rubbish)
        with pytest.raises(IdentityError, match="PEM"):
            await transport.serve(accept=lambda _: True, respond=_unused, notice=lambda *_: None)

    play(scene())


async def _unused(_peer: Peer, _frame: bytes) -> bytes:
    raise AssertionError


def test_a_port_in_use_is_said_with_its_address_and_leaves_no_other_port_open(authority: Authority) -> None:
    async def scene() -> None:
        credentials = authority.issue("hub", HUB)
        with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
            busy, report = taken.getsockname()[1], free.getsockname()[1]
            free.close()
            transport = NngHubTransport(f"tls+tcp://127.0.0.1:{busy}", f"tls+tcp://127.0.0.1:{report}", credentials)
            with pytest.raises(UnavailableError, match=f"127.0.0.1:{busy}.*in use"):
                await transport.serve(accept=lambda _: True, respond=_unused, notice=lambda *_: None)
            socket.create_server(("127.0.0.1", report)).close()

    play(scene())


def test_an_address_that_is_not_ours_is_said(authority: Authority) -> None:
    async def scene() -> None:
        transport = NngHubTransport("tls+tcp://192.0.2.1:0", ANYWHERE, authority.issue("hub", HUB))
        with pytest.raises(UnavailableError, match=r"192\.0\.2\.1"):
            await transport.serve(accept=lambda _: True, respond=_unused, notice=lambda *_: None)

    play(scene())


def test_garbage_and_silence_on_the_ports_leave_the_service_unaffected(authority: Authority) -> None:
    async def scene() -> None:
        dice = random.Random(7)  # noqa: S311 - garbage, not keys
        async with Hub(authority) as hub:
            ports = (hub.exchange.publish_port, hub.exchange.report_port)
            silent = [socket.create_connection(("127.0.0.1", port)) for port in ports for _ in range(25)]
            for port in ports:
                for _ in range(10):
                    with socket.create_connection(("127.0.0.1", port)) as rude:
                        rude.sendall(dice.randbytes(dice.randrange(1, 4000)))
            before = time.monotonic()
            await hub.still_serves()
            assert time.monotonic() - before < 5
            for one in silent:
                one.close()
            await hub.still_serves()

    play(scene())


def test_a_refused_node_that_dials_in_a_loop_leaves_the_service_answering(authority: Authority) -> None:
    async def scene() -> None:
        async with Hub(authority) as hub:
            hub.roster = {KEY}
            revoked = authority.issue("fedcba9876543210", "web1")
            link = await hub.node(authority.issue(KEY, "web2")).dial([b"ALL:"], SOON)
            for _ in range(20):
                with pytest.raises(LinkLostError):
                    await ask_as(hub, revoked)
                before = time.monotonic()
                assert await link.request(b"x", SOON) == b"web2 said x"
                assert time.monotonic() - before < 2
            assert hub.exchange.refused >= 20
            assert {peer.name for peer in hub.accepted} == {"web2"}
            await link.close()

    play(scene())


def test_a_lost_link_is_not_dialled_again_behind_its_users_back(authority: Authority) -> None:
    async def scene() -> None:
        async with Hub(authority) as hub:
            credentials = authority.issue(KEY, "web1")
            link = await hub.node(credentials).dial([b"ALL:"], SOON)
            await until(lambda: len(hub.accepted) == 2)
            hub.exchange.disconnect(KEY)
            with pytest.raises(LinkLostError):
                await link.receive()
            for _ in range(5):  # the time that five genuine dials take
                await hub.still_serves()
            assert len(hub.accepted) == 2 + 5 * 2
            await link.close()

    play(scene())


def test_a_dial_that_fails_is_tried_once_and_leaves_nothing_behind(authority: Authority) -> None:
    async def scene() -> None:
        knocks = 0

        async def slam(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal knocks
            knocks += 1
            writer.close()

        server = await asyncio.start_server(slam, "127.0.0.1", 0)
        url = f"tls+tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        before = descriptors()
        with pytest.raises(LinkLostError):
            await NngNodeTransport(url, url, authority.issue(KEY, "web1"), HUB).dial([b"ALL:"], SOON)
        assert descriptors() <= before
        await asyncio.sleep(REFUSED)
        assert knocks == 1
        server.close()

    play(scene())


def test_a_certificate_that_was_only_looked_at_names_nobody(authority: Authority, stranger: Authority) -> None:
    names: list[Peer | None] = []
    config = tls.hub_side(authority.issue("hub", HUB))
    config.set_auth_mode(pynng.TLSConfig.AUTH_MODE_OPTIONAL)
    with pynng.Rep0(tls_config=config) as hub:
        hub.add_pre_pipe_connect_cb(lambda pipe: names.append(tls.verified_peer(pipe)))
        hub.listen(ANYWHERE)
        port = pynng.ffi.new("int *")
        pynng.lib.nng_listener_get_int(hub.listeners[0].listener, b"tcp-bound-port", port)
        for badge in (stranger.issue(KEY, "web1", trust=authority), authority.issue(KEY, "web1")):
            with pynng.Req0(tls_config=tls.node_side(badge, HUB), resend_time=-1, send_timeout=10_000) as node:
                node.dial(f"tls+tcp://127.0.0.1:{port[0]}", block=True)
                node.send(b"here")
                hub.recv()
    assert names == [None, Peer(name="web1", key=KEY)]


def test_a_node_that_is_revoked_while_it_is_being_accepted_stays_out(authority: Authority) -> None:
    async def scene() -> None:
        async with Hub(authority) as hub:

            def accept(peer: Peer) -> bool:
                hub.exchange.disconnect(peer.key)  # the roster changes after it was read, before its word has an effect
                return True

            hub.accept = accept  # type: ignore[method-assign]
            await hub.exchange.close()
            await hub.__aenter__()
            with pytest.raises(LinkLostError):
                await ask_as(hub, authority.issue(KEY, "web1"))
            assert hub.exchange.refused >= 1

    play(scene())


def raw_request_socket(hub: Hub, credentials: Credentials) -> Any:
    """A peer of our own making, that does not keep our rules."""
    socket_ = pynng.Socket(opener=pynng.lib.nng_req0_open_raw, tls_config=tls.node_side(credentials, HUB))
    socket_.dial(f"tls+tcp://127.0.0.1:{hub.exchange.report_port}", block=True)
    return socket_


def raw_request(socket_: Any, number: int, frame: bytes) -> None:
    message = pynng.Message(frame)
    header = (0x80000000 | number).to_bytes(4, "big")
    pynng.check_err(pynng.lib.nng_msg_header_append(message._nng_msg, header, len(header)))
    socket_.send_msg(message)


def test_a_peer_that_floods_gets_one_request_at_a_time_and_others_are_served(authority: Authority) -> None:
    async def scene() -> None:
        async with Hub(authority) as hub:
            gate, running, most = asyncio.Event(), 0, 0

            async def respond(peer: Peer, frame: bytes) -> bytes:
                nonlocal running, most
                if frame != b"flood":
                    return await Hub.respond(hub, peer, frame)
                running += 1
                most = max(most, running)
                await gate.wait()
                running -= 1
                return b""

            hub.respond = respond  # type: ignore[method-assign]
            await hub.exchange.close()
            await hub.__aenter__()
            flooding = await asyncio.to_thread(raw_request_socket, hub, authority.issue(KEY, "web9"))
            for number in range(200):
                await asyncio.to_thread(raw_request, flooding, number, b"flood")
            await hub.still_serves()
            assert most == 1
            gate.set()
            flooding.close()

    play(scene())


def test_what_is_no_request_at_all_is_not_answered(authority: Authority) -> None:
    async def scene() -> None:
        async with Hub(authority) as hub:
            rude = await asyncio.to_thread(raw_request_socket, hub, authority.issue(KEY, "web9"))
            for frame in (b"", b"\0", b"\0\0\0\0", b"no end of way back" * 100):
                await asyncio.to_thread(rude.send, frame)
            await hub.still_serves()
            rude.close()

    play(scene())


def test_one_certificate_cannot_hold_any_number_of_connections(authority: Authority) -> None:
    async def scene() -> None:
        async with Hub(authority) as hub:
            transport = hub.node(authority.issue(KEY, "web1"))
            links = []
            for number in range(1, CONNECTIONS + 3):
                links.append(await transport.dial([b"ALL:"], SOON))
                await until(lambda count=2 * number: len(hub.accepted) == count)  # both ways in before the next comes
            for link in links[:2]:
                with pytest.raises(LinkLostError):
                    await asyncio.wait_for(link.receive(), SOON)
            for link in links[2:]:
                assert await link.request(b"x", SOON) == b"web1 said x"
            await until(lambda: len(hub.exchange._gate._guests) == 2 * CONNECTIONS)
            for link in links:
                await link.close()

    play(scene())


def test_the_hub_gives_back_the_descriptors_and_tasks_of_those_that_came_and_went(authority: Authority) -> None:
    async def scene() -> None:
        async with Hub(authority) as hub:
            await hub.still_serves()
            hub.exchange.disconnect(KEY)
            await until(lambda: not hub.exchange._gate._guests)
            before = descriptors()
            for _ in range(10):
                await hub.still_serves()
            hub.exchange.disconnect(KEY)  # also ends those whose end NNG has missed
            await until(lambda: not hub.exchange._gate._guests and descriptors() <= before)
            assert hub.exchange._replies._tasks == {}
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scene())


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.005)


def test_an_idle_link_costs_nothing(authority: Authority) -> None:
    async def scene() -> None:
        async with Hub(authority) as hub:
            link = await hub.node(authority.issue(KEY, "web1")).dial([b"ALL:"], SOON)
            waiting = asyncio.create_task(link.receive())
            await asyncio.sleep(0)
            before = time.process_time()
            await asyncio.sleep(1)
            assert time.process_time() - before < 0.05
            await link.close()
            with pytest.raises(LinkLostError):
                await waiting

    play(scene())


HUB_PROCESS = """
import asyncio, sys
import msgspec
from nanoexec.model import Credentials
from nanoexec.transport.nng import NngHubTransport

async def respond(peer, frame):
    return frame

async def main():
    credentials = msgspec.json.decode(sys.stdin.buffer.read(), type=Credentials)
    transport = NngHubTransport("tls+tcp://127.0.0.1:0", "tls+tcp://127.0.0.1:0", credentials)
    exchange = await transport.serve(accept=lambda _: True, respond=respond, notice=lambda *_: None)
    print(exchange.publish_port, exchange.report_port, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_a_hub_that_is_killed_is_noticed_at_once_and_its_successor_can_be_dialled(authority: Authority) -> None:
    async def hub_process() -> tuple[asyncio.subprocess.Process, NngNodeTransport]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HUB_PROCESS, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdin
        assert process.stdout
        process.stdin.write(msgspec.json.encode(authority.issue("hub", HUB)))
        process.stdin.close()
        publish, report = (await process.stdout.readline()).split()
        urls = (f"tls+tcp://127.0.0.1:{port.decode()}" for port in (publish, report))
        return process, NngNodeTransport(*urls, authority.issue(KEY, "web1"), HUB)

    async def scene() -> None:
        first, transport = await hub_process()
        second, successor = await hub_process()
        try:
            link = await transport.dial([b"ALL:"], SOON)
            assert await link.request(b"x", SOON) == b"x"
            first.kill()
            with pytest.raises(LinkLostError, match="lost"):
                await asyncio.wait_for(link.receive(), 2)
            link = await successor.dial([b"ALL:"], SOON)
            assert await link.request(b"y", SOON) == b"y"
            await link.close()
        finally:
            for process in (first, second):
                if process.returncode is None:
                    process.kill()
                await process.wait()

    play(scene())
