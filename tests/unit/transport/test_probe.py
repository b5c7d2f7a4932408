"""The probe against real hubs, real sockets and things that are no hub: each fault is named at its stage."""

import asyncio
import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from nanoexec.model import Credentials
from nanoexec.transport import Peer
from nanoexec.transport.nng import NngExchange, NngHubTransport
from nanoexec.transport.probe import Stage, probe
from tests.support.pki import DAY, Authority

pytestmark = pytest.mark.node

HUB = "hub.example.org"
KEY = "0123456789abcdef"
ANYWHERE = "tls+tcp://127.0.0.1:0"
STAGES = ["certificate", "dns", "tcp", "tls", "welcome"]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def stranger() -> Authority:
    return Authority("another CA")


def probe_hub(
    hub: Credentials, node: Credentials, *, hub_name: str = HUB, welcomes: Iterable[bool] = (), publish: bool = False
) -> list[Stage]:
    answers = iter(welcomes)

    async def respond(_peer: Peer, _frame: bytes) -> bytes:
        raise AssertionError("a probe asks nothing")

    async def run() -> list[Stage]:
        transport = NngHubTransport(ANYWHERE, ANYWHERE, hub)
        exchange: NngExchange = await transport.serve(
            accept=lambda _: next(answers, True), respond=respond, notice=lambda *_: None
        )
        try:
            port = exchange.publish_port if publish else exchange.report_port
            return await asyncio.to_thread(probe, "127.0.0.1", port, node, hub_name, 5)
        finally:
            await exchange.close()

    return asyncio.run(run())


def failure(stages: list[Stage]) -> tuple[str, str]:
    """The stage that failed and why; those before it went well."""
    assert [stage.name for stage in stages] == STAGES[: len(stages)]
    assert [stage.ok for stage in stages] == [True] * (len(stages) - 1) + [False]
    assert all("\n" not in stage.detail for stage in stages)
    return stages[-1].name, stages[-1].detail


def test_a_hub_that_accepts_the_node_passes_every_stage(authority: Authority) -> None:
    stages = probe_hub(authority.issue("hub", HUB), authority.issue(KEY, "web1"))
    assert [(stage.name, stage.ok) for stage in stages] == [(name, True) for name in STAGES]


def test_a_hub_that_has_just_hung_up_on_a_silent_node_is_asked_again(authority: Authority) -> None:
    stages = probe_hub(authority.issue("hub", HUB), authority.issue(KEY, "web1"), welcomes=[False])
    assert [(stage.name, stage.ok) for stage in stages] == [(name, True) for name in STAGES]


@pytest.mark.parametrize(
    ("badge", "why"),
    [
        (lambda ours, _: ours.issue(KEY, "web1", valid_from=-2 * DAY, valid_for=DAY), "has expired"),
        (lambda ours, _: ours.issue(KEY, "web1", valid_from=DAY), "not valid yet"),
        (lambda ours, theirs: theirs.issue(KEY, "web1", trust=ours), "not signed by the CA"),
        (lambda ours, _: Credentials(ca=ours.pem), "cannot be used"),
        (lambda *_: Credentials(ca=""), "cannot be used"),
    ],
    ids=["expired", "not yet", "foreign", "missing", "no CA"],
)
def test_a_fault_of_the_nodes_own_certificate_is_found_before_anybody_is_asked(
    authority: Authority, stranger: Authority, badge: Callable[[Authority, Authority], Credentials], why: str
) -> None:
    stages = probe("127.0.0.1", 1, badge(authority, stranger), HUB, 1)
    name, detail = failure(stages)
    assert name == "certificate"
    assert why in detail


def test_a_name_that_does_not_resolve_is_said(authority: Authority) -> None:
    assert failure(probe("no such host", 4445, authority.issue(KEY, "web1"), HUB, 1))[0] == "dns"


def test_a_port_where_nobody_listens_is_said(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    name, detail = failure(probe("127.0.0.1", port, authority.issue(KEY, "web1"), HUB, 1))
    assert name == "tcp"
    assert f"127.0.0.1 port {port}: connection refused" in detail


def test_a_hub_of_a_foreign_ca_is_said(authority: Authority, stranger: Authority) -> None:
    name, detail = failure(probe_hub(stranger.issue("hub", HUB), authority.issue(KEY, "web1")))
    assert name == "tls"
    assert "the hub's certificate is not signed by the CA of this node" in detail


def test_a_hub_with_an_expired_certificate_is_said(authority: Authority) -> None:
    expired = authority.issue("hub", HUB, valid_from=-2 * DAY, valid_for=DAY)
    name, detail = failure(probe_hub(expired, authority.issue(KEY, "web1")))
    assert name == "tls"
    assert "the hub's certificate has expired" in detail


def test_a_hub_of_another_name_is_said(authority: Authority) -> None:
    name, detail = failure(
        probe_hub(authority.issue("hub", HUB), authority.issue(KEY, "web1"), hub_name="other.example.org")
    )
    assert name == "tls"
    assert "not for other.example.org" in detail


def test_a_hub_that_refuses_the_nodes_ca_is_said(authority: Authority, stranger: Authority) -> None:
    hub = authority.issue("hub", HUB, trust=stranger)  # proves itself to the node, and trusts another CA
    name, detail = failure(probe_hub(hub, authority.issue(KEY, "web1")))
    assert name == "tls"
    assert "refuses this node's certificate" in detail


def test_a_node_that_is_not_on_the_roster_is_said(authority: Authority) -> None:
    name, detail = failure(
        probe_hub(authority.issue("hub", HUB), authority.issue(KEY, "web1"), welcomes=itertools.repeat(False))
    )
    assert name == "welcome"
    assert "roster" in detail


def test_the_wrong_one_of_the_hubs_ports_is_said(authority: Authority) -> None:
    name, detail = failure(probe_hub(authority.issue("hub", HUB), authority.issue(KEY, "web1"), publish=True))
    assert name == "welcome"
    assert "not the report port" in detail


@contextlib.contextmanager
def peer(talk: Callable[[socket.socket], Any]) -> Iterator[int]:
    """Something that listens, takes one connection, and does with it what ``talk`` does."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                talk(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    ("talk", "why"),
    [
        (lambda connection: connection.sendall(b"220 mail.example.org ESMTP\r\n"), "no TLS"),
        (lambda connection: connection.recv(1), "no TLS"),
        (lambda connection: connection.recv(100_000) and connection.recv(1), "no TLS answer in time"),
    ],
    ids=["speaks something else", "hangs up", "says nothing"],
)
def test_what_does_not_speak_tls_is_said(authority: Authority, talk: Callable[[socket.socket], Any], why: str) -> None:
    with peer(talk) as port:
        name, detail = failure(probe("127.0.0.1", port, authority.issue(KEY, "web1"), HUB, 0.5))
    assert name == "tls"
    assert why in detail
