"""Handshakes broken off: NNG keeps a descriptor of some, and the hub has its descriptors all the same."""

import asyncio
import contextlib
import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pynng
import pytest

from nanoexec.config import Paths
from nanoexec.keys import credentials
from nanoexec.model import Credentials
from nanoexec.transport.nng import ask_to_join, serve_join, tls
from nanoexec.transport.nng.listeners import SHARE, Listeners
from tests.support.fleet import fleet_of, outcomes, wait_until, whoami
from tests.support.handshakes import break_off, context
from tests.support.pki import Authority

HUB = "hub.example.org"
ANYWHERE = "tls+tcp://127.0.0.1:0"
LIMIT = 256
LOT = 30  # handshakes, of which NNG keeps about half
SOON = 10.0


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def descriptors(pid: int | str = "self") -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@contextlib.contextmanager
def at_most(soft: int) -> Iterator[None]:
    """So many descriptors in this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.02)


async def asked(port: int, badge: Credentials) -> bytes:
    """What a peer hears that comes in the regular way."""
    with pynng.Req0(tls_config=tls.node_side(badge, HUB), send_timeout=10_000, recv_timeout=10_000) as node:
        node.dial(f"tls+tcp://127.0.0.1:{port}", block=True)
        await node.asend(b"here")
        return bytes(await node.arecv())


@contextlib.contextmanager
def server(authority: Authority, every: float) -> Iterator[tuple[Listeners, int]]:
    with pynng.Rep0() as rep:
        answering = asyncio.ensure_future(answer(rep))
        listeners = Listeners(every)
        try:
            yield listeners, listeners.open(rep, ANYWHERE, tls.hub_side(authority.issue("hub", HUB)))
        finally:
            listeners.close()
            answering.cancel()


async def answer(rep: pynng.Rep0) -> None:
    with contextlib.suppress(pynng.Closed):
        while True:
            await rep.asend(b"heard " + await rep.arecv())


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_handshakes_that_are_broken_off_leave_a_bounded_number_of_descriptors(authority: Authority) -> None:
    async def scene() -> None:
        badge = authority.issue("0123456789abcdef", "web1")
        with server(authority, 0.05) as (listeners, port), at_most(LIMIT):
            before, most, lots = descriptors(), 0, 0
            while listeners.reopened < 3:
                lots += 1
                assert lots < 3 * LIMIT / LOT * 3, "they were not noticed"
                await asyncio.to_thread(break_off, context(badge), port, HUB, LOT)
                most = max(most, descriptors())
            assert most <= before + LIMIT // SHARE + LOT
            assert await asked(port, badge) == b"heard here"  # at the same port

    asyncio.run(asyncio.wait_for(scene(), 60))


def test_a_few_of_them_disturb_nobody(authority: Authority) -> None:
    async def scene() -> None:
        badge = authority.issue("0123456789abcdef", "web1")
        with server(authority, 0.05) as (listeners, port):
            await asyncio.to_thread(break_off, context(badge), port, HUB, LOT)
            await asyncio.sleep(0.5)
            assert listeners.reopened == 0

    asyncio.run(asyncio.wait_for(scene(), 60))


def test_a_listener_that_cannot_be_opened_anew_is_tried_again(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        badge = authority.issue("0123456789abcdef", "web1")
        with server(authority, 0.05) as (listeners, port):
            await asyncio.to_thread(break_off, context(badge), port, HUB, LOT)
            assert listeners.reopened == 0
            with at_most(10):  # not one more can be had
                await until(lambda: "it is tried again" in caplog.text)
                assert listeners.reopened == 1
            await until(lambda: listens(port))
            assert await asked(port, badge) == b"heard here"

    asyncio.run(asyncio.wait_for(scene(), 60))
    first = caplog.messages[0]
    assert first.startswith("tls+tcp://127.0.0.1:")
    assert "broken off in the TLS handshake" in first


def test_what_outlives_its_listener_does_not_close_the_next_one(authority: Authority) -> None:
    async def scene() -> None:
        with server(authority, 0.05) as (listeners, port), contextlib.ExitStack() as stack:
            for number in range(LIMIT // SHARE + 1):  # nothing of NNG's: so no closing of its listener ends them
                stack.enter_context(broken(port, f"127.0.1.{1 + number}"))
            with at_most(LIMIT):
                await until(lambda: listeners.reopened)
                await asyncio.sleep(0.5)
                assert listeners.reopened == 1

    asyncio.run(asyncio.wait_for(scene(), 60))


@contextlib.contextmanager
def broken(port: int, host: str) -> Iterator[None]:
    """A connection with this local port that the other side has reset."""
    with socket.create_server(("127.0.0.1", 0)) as other, socket.socket() as here:
        here.bind((host, port))
        here.connect(other.getsockname())
        there, _ = other.accept()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        there.close()
        other.close()
        yield


def test_who_has_no_certificate_cannot_use_up_the_descriptors_at_the_join_port(authority: Authority) -> None:
    async def respond(frame: bytes) -> bytes:
        return b"heard " + frame

    async def scene() -> None:
        join = await serve_join(ANYWHERE, authority.issue("hub", HUB), respond)
        try:
            before = descriptors()
            with at_most(LIMIT):
                while descriptors() <= before + LIMIT // SHARE:
                    await asyncio.to_thread(break_off, context(Credentials(ca=authority.pem)), join.port, HUB, LOT)
                await until(lambda: descriptors() <= before)
                address = f"tls+tcp://127.0.0.1:{join.port}"
                assert await ask_to_join(address, b"me", ca=authority.pem, hub_name=HUB, within=SOON) == b"heard me"
        finally:
            await join.close()

    asyncio.run(asyncio.wait_for(scene(), 60))


def test_a_revoked_node_that_breaks_off_handshakes_without_end_does_not_keep_a_trigger_from_others() -> None:
    with fleet_of("web1", "web2") as fleet:
        fleet.nodes["web1"].action("hello", f'command = ["true"]\nuser = "{whoami()}"\n')
        revoked = context(credentials.load_node(Paths(root=fleet.nodes["web2"].root).agent_state))
        fleet.run("nodes", "revoke", "web2")
        fleet.nodes["web2"].stop()
        hub = fleet.hub.process
        assert hub
        before, hard = descriptors(hub.pid), resource.prlimit(hub.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(hub.pid, resource.RLIMIT_NOFILE, (LIMIT, hard))
        break_off(revoked, fleet.keys["publish_port"], "localhost", 2 * LIMIT)  # more than it has
        wait_until(lambda: descriptors(hub.pid) <= before + LIMIT // SHARE, "the hub has its descriptors again")
        fleet.wait_connected("web1")
        assert outcomes(fleet.trigger("web1:hello")) == {"web1": "succeeded"}
        assert fleet.status()["counters"]["listeners_reopened"] >= 1
        assert "listening anew" in fleet.hub.text()
        assert "Traceback" not in fleet.hub.text()
