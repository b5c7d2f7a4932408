"""TLS handshakes of our own: broken off where it hurts, right behind the client's last word, or as NNG makes them."""

import contextlib
import socket
import ssl
import struct
import tempfile
from typing import Final

from nanoexec.model import Credentials

SUB: Final = 0x21  # the protocol numbers of NNG's scalability protocols
REQ: Final = 0x30
SOON: Final = 10.0


def context(credentials: Credentials) -> ssl.SSLContext:
    """A client's side, as nodes have it; without a certificate if the credentials have none."""
    made = ssl.create_default_context(cadata=credentials.ca)
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    if credentials.certificate:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(credentials.certificate + credentials.key)
            file.flush()
            made.load_cert_chain(file.name)
    return made


def break_off(side: ssl.SSLContext, port: int, hub_name: str, times: int = 1) -> None:
    """Hang up behind the last flight of the client, without waiting for the answer, so many times.

    A hub that does not answer at all, for it has no descriptor left, is given a tenth of a second.
    """
    for _ in range(times):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.1) as plain:
            _handshake(side, plain, hub_name)


def greet(side: ssl.SSLContext, plain: socket.socket, hub_name: str, protocol: int = REQ) -> ssl.SSLSocket:
    """What NNG makes of a TCP connection, up to the other end's greeting. Raises `OSError`."""
    try:
        secured = side.wrap_socket(plain, server_hostname=hub_name)
    except OSError:
        plain.close()
        raise
    secured.sendall(b"\0SP\0" + struct.pack(">HH", protocol, 0))
    secured.recv(8)
    return secured


def turned_away(side: ssl.SSLContext, address: tuple[str, int], hub_name: str, source: str) -> None:
    """Dial from ``source``, and wait until the other end hangs up."""
    plain = socket.create_connection(address, timeout=SOON, source_address=(source, 0))
    with greet(side, plain, hub_name) as secured, contextlib.suppress(OSError):
        secured.recv(1)


def _handshake(side: ssl.SSLContext, plain: socket.socket, hub_name: str) -> None:
    heard, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = side.wrap_bio(heard, said, server_hostname=hub_name)
    for _ in range(2):  # flights of the client: the greeting, and all the rest
        while not said.pending:
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                if not said.pending:
                    heard.write(plain.recv(65536) or b"\0")  # what is no TLS ends it
        plain.sendall(said.read())
