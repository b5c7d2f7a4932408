"""Why a dial failed: the stages of a connection one by one, which NNG does in one go without saying where it fails.

Only the standard library, and blocking: a service calls it in a thread. The node's own certificate is tried in memory
first, because a hub that refuses one does not say why.
"""

import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Final

from nanoexec.model import Credentials, Value

NOT_ON_THE_ROSTER: Final = (
    "this node's certificate is not on the hub's roster: it was revoked, or the node has joined again since"
)
# How an SP connection opens: version, the sender's protocol, reserved (sp-tcp-mapping-01; REQ is 0x30, REP 0x31).
_REQ_GREETING: Final = b"\0SP\0\0\x30\0\0"
_REP_GREETING: Final = b"\0SP\0\0\x31\0\0"
_SETTLE: Final = 0.5  # seconds in which a hub that greeted hangs up, if it does not have the certificate on its roster
_ROUNDS: Final = 4  # flights of a TLS handshake in memory; two suffice
_FOREIGN: Final = frozenset({7, 18, 19, 20, 21})  # X509_V_ERR_*: self-signed, an issuer not known, or not its signature
_EXPIRED: Final = 10
_NOT_YET: Final = 9
_OTHER_NAME: Final = 62


class Stage(Value, frozen=True):
    """One stage and how it went; ``detail`` is one line for an operator."""

    name: str
    ok: bool
    detail: str


def probe(host: str, port: int, credentials: Credentials, hub_name: str, within: float) -> list[Stage]:
    """Try certificate, dns, tcp, tls and welcome in turn; the list ends with the first that failed.

    ``port`` is the hub's report port. Takes ``within`` seconds at most, and what the resolver takes. Raises nothing.
    """
    deadline = time.monotonic() + within
    stages = list(_stages(host, port, credentials, hub_name, deadline))
    if stages[-1].name == "welcome" and not stages[-1].ok:
        # A hub that has just given a silent node up hangs up on all that it has from it, and lets it in again.
        stages = list(_stages(host, port, credentials, hub_name, deadline))
    return stages


def _stages(host: str, port: int, credentials: Credentials, hub_name: str, deadline: float) -> Iterator[Stage]:
    try:
        context = _context(ssl.PROTOCOL_TLS_CLIENT, credentials)
        fault = _own_fault(credentials)
    except (OSError, ValueError) as error:
        fault = f"cannot be used: {_plain(error)}"
    yield Stage("certificate", not fault, f"this node's certificate {fault or 'is valid and signed by its CA'}")
    if fault:
        return

    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        yield Stage("dns", ok=False, detail=f"{host}: the name cannot be resolved: {_plain(error)}")
        return
    yield Stage("dns", ok=True, detail=f"{host} is {', '.join(dict.fromkeys(str(entry[4][0]) for entry in found))}")

    place = f"{host} port {port}"
    with ExitStack() as stack:
        try:
            plain = stack.enter_context(socket.create_connection((host, port), timeout=_left(deadline)))
        except OSError as error:
            yield Stage("tcp", ok=False, detail=f"{place}: {_tcp_fault(error)}")
            return
        yield Stage("tcp", ok=True, detail=f"{place}: connected")

        secured = context.wrap_socket(plain, server_hostname=hub_name, do_handshake_on_connect=False)
        stack.enter_context(secured)
        try:
            secured.settimeout(_left(deadline))
            secured.do_handshake()
        except OSError as error:
            # A cipher is there once the hub has proved itself: what ends the handshake then is its word on this node.
            detail = _refusal(error) if secured.cipher() else _tls_fault(error, hub_name)
            yield Stage("tls", ok=False, detail=f"{place}: {detail}")
            return
        yield Stage("tls", ok=True, detail=f"{place}: this is {hub_name}, by {secured.version()}")

        fault = _unwelcome(secured, deadline)
        yield Stage("welcome", not fault, f"{place}: {fault or 'the hub accepts this node'}")


def _own_fault(credentials: Credentials) -> str:
    """What a hub of the same CA would have against the node's certificate: a handshake with oneself."""
    server = _context(ssl.PROTOCOL_TLS_SERVER, credentials)
    server.verify_mode = ssl.CERT_REQUIRED
    lenient = _context(ssl.PROTOCOL_TLS_CLIENT, credentials)
    lenient.check_hostname = False
    lenient.verify_mode = ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = lenient.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)
    try:
        for end in ends * _ROUNDS:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return _certificate_fault(error, "was not signed by the CA it came with: join again")
    return ""


def _unwelcome(secured: ssl.SSLSocket, deadline: float) -> str:
    """The roster speaks last: NNG asks for it once both ends have greeted, and hangs up."""
    try:
        secured.settimeout(_left(deadline))
        secured.sendall(_REQ_GREETING)
        greeting = secured.recv(len(_REP_GREETING))
    except TimeoutError:
        return "no answer in time"
    except OSError as error:  # in TLS 1.3 the word on the client's certificate comes only now
        return _refusal(error)
    if greeting != _REP_GREETING:
        return "what answers is not the report port of a hub"
    try:
        secured.settimeout(min(_SETTLE, _left(deadline)))
        secured.recv(1)
    except TimeoutError:
        return ""
    except OSError:
        pass
    return NOT_ON_THE_ROSTER


def _refusal(error: OSError) -> str:
    return f"the hub refuses this node's certificate ({_plain(error)}): it has another CA, or another time"


def _context(protocol: int, credentials: Credentials) -> ssl.SSLContext:
    """A plain context: what Debian's OpenSSL adds by default must not make the probe stricter than the agent is."""
    context = ssl.SSLContext(protocol)
    context.load_verify_locations(cadata=credentials.ca)
    # The ssl module takes a key only by its path: a nameless file in memory has one, and never touches a disk.
    descriptor = os.memfd_create("nanoexec-credentials", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(credentials.certificate.encode() + b"\n" + credentials.key.encode())
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    return context


def _tcp_fault(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused: no hub listens there"
    if isinstance(error, TimeoutError):
        return "no answer in time: the host is down, or a firewall drops the packets"
    return f"cannot connect: {_plain(error)}"


def _tls_fault(error: OSError, hub_name: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code == _OTHER_NAME:
            return f"the hub's certificate is not for {hub_name}: set hub_name to the name that the hub has"
        return f"the hub's certificate {_certificate_fault(error, 'is not signed by the CA of this node: join again')}"
    if isinstance(error, TimeoutError):
        return "no TLS answer in time"
    return f"no TLS with what answers there: {_plain(error)}"


def _certificate_fault(error: ssl.SSLCertVerificationError, foreign: str) -> str:
    if error.verify_code in _FOREIGN:
        return foreign
    if error.verify_code == _EXPIRED:
        return "has expired, by the clock of this machine"
    if error.verify_code == _NOT_YET:
        return "is not valid yet, by the clock of this machine"
    return f"cannot be verified: {error.verify_message}"


def _plain(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "the peer hung up").lower().replace("_", " ")
    return getattr(error, "strerror", None) or str(error)


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.001)
