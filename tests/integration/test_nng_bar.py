"""Who is refused again and again does not get as far as a handshake any more; all the others do not notice."""

import asyncio
import contextlib
import logging
import selectors
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Final

import pynng
import pytest

from nanoexec.errors import UnavailableError
from nanoexec.model import Credentials
from nanoexec.transport import Peer
from nanoexec.transport.nng import NngExchange, NngHubTransport, tls
from nanoexec.transport.nng.bar import Bar
from nanoexec.transport.nng.listeners import Listeners
from nanoexec.transport.nng.refusals import MANY
from tests.support.handshakes import SUB, context, greet, turned_away
from tests.support.pki import Authority

HUB: Final = "hub.example.org"
KEY, REVOKED = "0123456789abcdef", "fedcba9876543210"
GOOD, BAD = "127.0.0.1", "127.0.0.2"
SOON: Final = 10.0
TRIES: Final = 96  # fewer than NNG lets wait
LUCKY: Final = TRIES // 2  # of these at most come through a filter that lets one in eight: more in one case of 10^12
SHORT: Final = 1.0  # seconds for which the tests bar an address


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def play(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 90))


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.02)


@contextlib.contextmanager
def dialled(port: int, source: str, target: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    """Of so many who dial at once: those whom the kernel answers before any of them dials again, after a second."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(TRIES):
            one = stack.enter_context(socket.socket(family))
            one.bind((source, 0))
            one.setblocking(False)
            one.connect_ex((target, port))
            selector.register(one, selectors.EVENT_WRITE)
        time.sleep(0.3)
        yield [key.fileobj for key, _ in selector.select(0) if isinstance(key.fileobj, socket.socket)]


def answered(port: int, source: str, target: str = "127.0.0.1") -> int:
    with dialled(port, source, target) as sockets:
        return len(sockets)


class Hub:
    """Lets in `KEY` alone."""

    def __init__(self, authority: Authority) -> None:
        self.exchange: NngExchange
        self.badges = {key: context(authority.issue(key, "web1")) for key in (KEY, REVOKED)}
        self._credentials = authority.issue("hub", HUB)

    @contextlib.asynccontextmanager
    async def serving(self, address: str = "127.0.0.1") -> AsyncIterator[NngExchange]:
        async def respond(_: Peer, frame: bytes) -> bytes:
            return frame

        url = f"tls+tcp://{address}:0"
        self.exchange = await NngHubTransport(url, url, self._credentials).serve(
            accept=lambda peer: peer.key == KEY, respond=respond, notice=lambda *_: None
        )
        try:
            yield self.exchange
        finally:
            await self.exchange.close()

    async def refuse(self, source: str, times: int = MANY + 1, target: str = "127.0.0.1") -> None:
        """A revoked node dials from there, so many times."""
        address = (target, self.exchange.report_port)
        for _ in range(times):
            await asyncio.to_thread(turned_away, self.badges[REVOKED], address, HUB, source)


def test_who_is_refused_again_and_again_is_hardly_answered_and_others_are(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        hub = Hub(authority)
        async with hub.serving() as exchange:
            ports = exchange.publish_port, exchange.report_port
            await hub.refuse(BAD, MANY)
            assert exchange.barred == 0
            assert answered(ports[0], BAD) == TRIES
            await hub.refuse(BAD, 1)
            await until(lambda: exchange.barred)
            for port in ports:
                assert answered(port, BAD) <= LUCKY
                assert answered(port, GOOD) == TRIES
            assert (exchange.barred, exchange.refused) == (1, MANY + 1)

    play(scene())
    (line,) = caplog.messages
    assert line.startswith(f"{BAD}: refused again and again")


def test_whoever_is_connected_from_a_barred_address_stays(authority: Authority) -> None:
    async def scene() -> None:
        hub = Hub(authority)
        async with hub.serving() as exchange:

            async def listener(plain: socket.socket) -> ssl.SSLSocket:
                plain.settimeout(SOON)
                return await asyncio.to_thread(greet, hub.badges[KEY], plain, HUB, SUB)

            with dialled(exchange.publish_port, BAD) as first:
                before = await listener(first[0])
            await hub.refuse(BAD)
            await until(lambda: exchange.barred)
            with dialled(exchange.publish_port, BAD) as lucky:
                after = await listener(lucky[0])  # inherits the filter
            with before, after:
                await until(lambda: sum(guest.announced for guest in exchange._gate._guests.values()) == 2)
                for _ in range(20):
                    await exchange.publish(b"ALL:x")
                    for one in (before, after):
                        heard = await asyncio.to_thread(lambda peer: peer.recv(8) + peer.recv(8), one)
                        assert heard == struct.pack(">Q", 5) + b"ALL:x"
            await until(lambda: not exchange._gate._guests)  # that they hung up comes through as well

    play(scene())


def test_one_who_is_refused_for_anything_but_the_certificate_is_not_barred(authority: Authority) -> None:
    async def scene() -> None:
        hub = Hub(authority)
        async with hub.serving() as exchange:

            def accept(_: Peer) -> bool:
                raise ValueError("what is this")

            address = ("127.0.0.1", exchange.report_port)
            exchange._gate._accept = accept
            for _ in range(2 * MANY):
                await asyncio.to_thread(turned_away, hub.badges[KEY], address, HUB, BAD)
            assert (exchange.refused, exchange.barred) == (2 * MANY, 0)

    play(scene())


@pytest.mark.parametrize(("source", "other"), [("::1", GOOD), (GOOD, "::1"), (BAD, GOOD)])
def test_a_hub_that_listens_for_ipv6_bars_either_kind_of_address(authority: Authority, source: str, other: str) -> None:
    def target(address: str) -> str:
        return "::1" if ":" in address else "127.0.0.1"

    async def scene() -> None:
        hub = Hub(authority)
        async with contextlib.AsyncExitStack() as stack:
            try:
                exchange = await stack.enter_async_context(hub.serving("[::]"))
            except UnavailableError:
                pytest.skip("this machine has no IPv6")
            await hub.refuse(source, target=target(source))
            await until(lambda: exchange.barred)
            assert answered(exchange.report_port, source, target(source)) <= LUCKY
            assert answered(exchange.report_port, other, target(other)) == TRIES

    play(scene())


@contextlib.contextmanager
def listening(credentials: Credentials) -> Iterator[tuple[Listeners, int]]:
    with pynng.Rep0() as rep:
        listeners = Listeners()
        try:
            yield listeners, listeners.open(rep, "tls+tcp://127.0.0.1:0", tls.hub_side(credentials))
        finally:
            listeners.close()


def test_after_a_while_an_address_is_free_again(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        with listening(authority.issue("hub", HUB)) as (listeners, port):
            bar = Bar(listeners.filter, SHORT)
            for _ in range(2):
                for _ in range(MANY + 1):
                    bar.refused(socket.inet_aton(BAD))
                assert answered(port, BAD) <= LUCKY
                caplog.clear()
                await until(lambda: "127.0.0.2: whoever dials from there is answered again" in caplog.messages)
                assert answered(port, BAD) == TRIES
            assert bar.count == 2
            bar.close()

    caplog.set_level(logging.INFO)
    play(scene())


def test_a_listener_that_is_opened_anew_keeps_out_whom_it_kept_out(authority: Authority) -> None:
    async def scene() -> None:
        with listening(authority.issue("hub", HUB)) as (listeners, port):
            bar = Bar(listeners.filter)
            for _ in range(MANY + 1):
                bar.refused(socket.inet_aton(BAD))
            (listener,) = listeners._listeners
            listener.close()
            listeners._reopen(listener)
            await until(lambda: listener.is_open)
            assert answered(port, BAD) <= LUCKY
            assert answered(port, GOOD) == TRIES
            bar.close()

    play(scene())


def test_where_the_kernel_takes_no_filter_the_hub_goes_on_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    put: list[bytes] = []

    def refuse(program: bytes) -> None:
        put.append(program)
        if program:
            raise PermissionError(1, "Operation not permitted")

    async def scene() -> None:
        bar = Bar(refuse)
        for number in range(3 * MANY):
            bar.refused(socket.inet_aton(f"192.0.2.{number % 2}"))
        assert bar.count == 0

    play(scene())
    assert caplog.messages == [
        "nobody can be barred from dialling, however often it is refused: [Errno 1] Operation not permitted"
    ]
    assert put[1:] == [b""]  # one of the listeners may have taken it
