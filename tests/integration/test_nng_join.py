"""The join listener, as machines without a certificate see it."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from nanoexec.errors import UnavailableError
from nanoexec.model import Credentials
from nanoexec.transport import LinkLostError
from nanoexec.transport.nng import JoinServer, ask_to_join, serve_join
from nanoexec.wire.network import MAX_FRAME
from tests.support.pki import Authority

pytestmark = pytest.mark.node

SOON = 10.0
HUB = "hub.example.org"


async def respond(frame: bytes) -> bytes:
    if frame == b"bad":
        raise ValueError("what is this")
    return b"heard " + frame


def address(server: JoinServer) -> str:
    return f"tls+tcp://127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def credentials(authority: Authority) -> Credentials:
    return authority.issue("hub", HUB)


def play(credentials: Credentials, scene: Callable[[JoinServer], Awaitable[None]]) -> None:
    async def run() -> None:
        server = await serve_join("tls+tcp://127.0.0.1:0", credentials, respond)
        try:
            await asyncio.wait_for(scene(server), 60)
        finally:
            await server.close()
            await server.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_a_machine_without_certificate_can_ask_a_hub_that_proves_its_name(
    authority: Authority, credentials: Credentials
) -> None:
    async def scene(server: JoinServer) -> None:
        answer = await ask_to_join(address(server), b"me", ca=authority.pem, hub_name=HUB, within=SOON)
        assert answer == b"heard me"

    play(credentials, scene)


def test_a_machine_that_knows_no_ca_yet_can_ask_for_it(credentials: Credentials) -> None:
    async def scene(server: JoinServer) -> None:
        assert await ask_to_join(address(server), b"ca", ca=None, hub_name=HUB, within=SOON) == b"heard ca"

    play(credentials, scene)


def test_many_machines_can_ask_at_once(authority: Authority, credentials: Credentials) -> None:
    async def scene(server: JoinServer) -> None:
        asking = (
            ask_to_join(address(server), b"%d" % number, ca=authority.pem, hub_name=HUB, within=SOON)
            for number in range(20)
        )
        assert await asyncio.gather(*asking) == [b"heard %d" % number for number in range(20)]

    play(credentials, scene)


@pytest.mark.parametrize(("ca", "name"), [("foreign", HUB), ("right", "other.example.org")])
def test_a_hub_that_does_not_prove_itself_is_told_nothing(
    authority: Authority, credentials: Credentials, ca: str, name: str
) -> None:
    heard: list[bytes] = []

    async def scene() -> None:
        async def listen(frame: bytes) -> bytes:
            heard.append(frame)
            return b""

        server = await serve_join("tls+tcp://127.0.0.1:0", credentials, listen)
        try:
            trusted = authority.pem if ca == "right" else Authority("another CA").pem
            with pytest.raises(LinkLostError, match="no connection"):
                await ask_to_join(address(server), b"secret", ca=trusted, hub_name=name, within=0.5)
        finally:
            await server.close()

    asyncio.run(scene())
    assert heard == []


def test_bad_and_oversized_questions_get_no_answer_and_the_listener_lives_on(
    authority: Authority, credentials: Credentials
) -> None:
    async def scene(server: JoinServer) -> None:
        for frame, within in ((b"bad", 0.3), (bytes(MAX_FRAME + 1024), SOON)):
            with pytest.raises(LinkLostError):
                await ask_to_join(address(server), frame, ca=authority.pem, hub_name=HUB, within=within)
        answer = await ask_to_join(address(server), b"me", ca=authority.pem, hub_name=HUB, within=SOON)
        assert answer == b"heard me"

    play(credentials, scene)


def test_asking_nobody_ends_at_once() -> None:
    with pytest.raises(LinkLostError, match="no connection: connection refused"):
        asyncio.run(ask_to_join("tls+tcp://127.0.0.1:1", b"me", ca=None, hub_name=HUB, within=SOON))


def test_asking_who_is_silent_ends_within_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"tls+tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(LinkLostError, match=r"0\.2 s"):
            asyncio.run(ask_to_join(url, b"me", ca=None, hub_name=HUB, within=0.2))


def test_a_join_port_in_use_is_said_with_its_address(credentials: Credentials) -> None:
    async def scene(server: JoinServer) -> None:
        with pytest.raises(UnavailableError, match=f"127.0.0.1:{server.port}.*in use"):
            await serve_join(address(server), credentials, respond)

    play(credentials, scene)
