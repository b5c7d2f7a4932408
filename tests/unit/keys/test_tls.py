"""Real handshakes with what `nanoexec.keys` makes, in both TLS libraries that nanoexec meets."""

import socket
import ssl
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pynng
import pytest

from nanoexec.keys.ca import make_ca, make_hub_certificate, make_node_key, make_request, sign_request
from nanoexec.keys.credentials import Authority, write_hub, write_node
from nanoexec.model import Credentials

pytestmark = pytest.mark.node

HUB_NAME = "hub.example.net"
NOW = time.time()
YEAR = 365 * 86400
CA = make_ca(HUB_NAME, NOW)
HUB = make_hub_certificate(CA, HUB_NAME, NOW)


def node(ca: Authority = CA, name: str = "web1.example.net", now: float = NOW) -> Credentials:
    key = make_node_key()
    certificate = sign_request(ca, make_request(key, name), name=name, key_id="0123456789abcdef", now=now)
    return Credentials(ca=ca.certificate, certificate=certificate, key=key)


NODE = node()
FOREIGN_CA = make_ca(HUB_NAME, NOW)
EXPIRED_CA = make_ca(HUB_NAME, NOW - 11 * YEAR)


class Handshake:
    """Mutual TLS between a hub's and a node's credentials in memory, as strict as Python 3.13 is by default."""

    def __init__(self, directory: Path, hub: Credentials, agent: Credentials, hub_name: str) -> None:
        server = self._context(ssl.PROTOCOL_TLS_SERVER, directory / "server", hub)
        client = self._context(ssl.PROTOCOL_TLS_CLIENT, directory / "client", agent)
        assert client.check_hostname
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = server.wrap_bio(up, down, server_side=True)
        self.client = client.wrap_bio(down, up, server_hostname=hub_name)

    def _context(self, protocol: int, directory: Path, own: Credentials) -> ssl.SSLContext:
        write_node(directory, own)
        context = ssl.SSLContext(protocol)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(directory / "ca.crt")
        context.load_cert_chain(directory / "node.crt", directory / "node.key")
        return context

    def run(self) -> Mapping[str, object]:
        """The client's certificate as the server sees it. Raises `ssl.SSLError` as either side does."""
        for _ in range(10):
            done = True
            for side in (self.client, self.server):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    done = False
            if done:
                return self.server.getpeercert() or {}
        pytest.fail("the handshake does not end")


def test_openssl_joins_a_hub_and_a_node(tmp_path: Path) -> None:
    seen = Handshake(tmp_path, HUB, NODE, HUB_NAME).run()
    assert seen["subject"] == ((("commonName", "0123456789abcdef"),),)
    assert seen["subjectAltName"] == (("DNS", "web1.example.net"),)


@pytest.mark.parametrize(("address", "name"), [("192.0.2.1", "192.0.2.1"), ("hub", "hub"), ("hub_1", "hub_1")])
def test_openssl_finds_a_hub_by_any_name_that_a_hub_can_have(tmp_path: Path, address: str, name: str) -> None:
    Handshake(tmp_path, make_hub_certificate(CA, name, NOW), NODE, address).run()


@pytest.mark.parametrize(
    ("hub", "agent", "name", "reason"),
    [
        (HUB, NODE, "other.example.net", "Hostname mismatch"),
        (HUB, node(FOREIGN_CA), HUB_NAME, "certificate signature failure|self.signed certificate"),
        (node(name=HUB_NAME), NODE, HUB_NAME, "unsuitable certificate purpose"),
        (HUB, HUB, HUB_NAME, "unsuitable certificate purpose"),
        (HUB, node(EXPIRED_CA, now=NOW - 11 * YEAR), HUB_NAME, "certificate signature failure|self.signed"),
        (make_hub_certificate(EXPIRED_CA, HUB_NAME, NOW - 11 * YEAR), node(EXPIRED_CA), HUB_NAME, "has expired"),
    ],
    ids=["wrong name", "foreign CA", "a node as the hub", "the hub as a node", "foreign and expired", "expired"],
)
def test_openssl_refuses(tmp_path: Path, hub: Credentials, agent: Credentials, name: str, reason: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        Handshake(tmp_path, hub, agent, name).run()


def test_a_node_whose_clock_is_a_day_slow_still_believes_a_new_certificate(tmp_path: Path) -> None:
    ahead = NOW + 86400 - 60  # the same to the certificate: it is made by a hub almost a day ahead
    ca = make_ca(HUB_NAME, ahead)
    Handshake(tmp_path, make_hub_certificate(ca, HUB_NAME, ahead), node(ca, now=ahead), HUB_NAME).run()


def test_what_a_hub_writes_is_what_openssl_loads(tmp_path: Path) -> None:
    write_hub(tmp_path, CA, HUB)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "hub.crt", tmp_path / "hub.key")
    context.load_verify_locations(tmp_path / "ca.crt")
    assert len(context.get_ca_certs()) == 1


def nng_tls(mode: int, own: Credentials, **more: str) -> pynng.TLSConfig:
    keys = {"ca_string": own.ca, "own_key_string": own.key, "own_cert_string": own.certificate}
    return pynng.TLSConfig(mode, auth_mode=pynng.TLSConfig.AUTH_MODE_REQUIRED, **keys, **more)


def nng_exchange(hub: Credentials, agent: Credentials, hub_name: str) -> bytes:
    with pynng.Rep0(recv_timeout=10_000) as rep, pynng.Req0(recv_timeout=10_000, send_timeout=10_000) as req:
        rep.tls_config = nng_tls(pynng.TLSConfig.MODE_SERVER, hub)
        listener = rep.listen("tls+tcp://127.0.0.1:0")
        req.tls_config = nng_tls(pynng.TLSConfig.MODE_CLIENT, agent, server_name=hub_name)
        req.dial(f"tls+tcp://{listener.local_address}", block=True)
        req.send(b"hello")
        rep.send(rep.recv() + b", node")
        return bytes(req.recv())


@pytest.mark.parametrize("name", [HUB_NAME, "hub", "hub_1", "192.0.2.1"])
def test_nng_joins_a_hub_and_a_node(name: str) -> None:
    assert nng_exchange(make_hub_certificate(CA, name, NOW), NODE, name) == b"hello, node"


@pytest.mark.parametrize(
    ("hub", "agent", "name"),
    [
        (HUB, NODE, "other.example.net"),
        (HUB, node(FOREIGN_CA), HUB_NAME),
        (HUB, HUB, HUB_NAME),
        (make_hub_certificate(EXPIRED_CA, HUB_NAME, NOW - 11 * YEAR), node(EXPIRED_CA), HUB_NAME),
    ],
    ids=["wrong name", "foreign CA", "the hub as a node", "expired"],
)
def test_nng_refuses(hub: Credentials, agent: Credentials, name: str) -> None:
    with pytest.raises(pynng.CryptoError):
        nng_exchange(hub, agent, name)


@pytest.mark.parametrize("honest", [True, False])
def test_a_node_that_serves_under_the_hubs_name_is_refused_by_nng(tmp_path: Path, *, honest: bool) -> None:
    """The false hub is OpenSSL: Mbed TLS would not even serve with a certificate that is not for it."""
    write_node(tmp_path, HUB if honest else node(name=HUB_NAME))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "node.crt", tmp_path / "node.key")
    faults: list[ssl.SSLError] = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            try:
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(1)
            except ssl.SSLError as error:
                faults.append(error)

    with socket.create_server(("127.0.0.1", 0)) as listener, pynng.Req0() as req:
        listener.settimeout(10)
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        req.tls_config = nng_tls(pynng.TLSConfig.MODE_CLIENT, NODE, server_name=HUB_NAME)
        # The honest one is no NNG peer: it hangs up once the handshake, which is the point here, is through.
        with pytest.raises(pynng.NNGException) as caught:
            req.dial(f"tls+tcp://127.0.0.1:{listener.getsockname()[1]}", block=True)
        server.join(10)
    assert isinstance(caught.value, pynng.AuthenticationError) is not honest
    assert bool(faults) is not honest
