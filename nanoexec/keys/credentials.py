"""Where keys and certificates lie, and the rules under which they are read and written.

A hub's directory holds ``ca.key``, ``ca.crt``, ``hub.key``, ``hub.crt``; a node's holds ``node.key``, ``node.crt`` and
the hub's ``ca.crt``. A key that others can read is not used: it may be somebody else's by now.
"""

import os
import ssl
import stat
from pathlib import Path
from typing import Final

from nanoexec.errors import ConfigError, IdentityError
from nanoexec.files import open_regular, write_atomically
from nanoexec.model import Credentials, Value

CA_KEY: Final = "ca.key"
CA_CERTIFICATE: Final = "ca.crt"
HUB_KEY: Final = "hub.key"
HUB_CERTIFICATE: Final = "hub.crt"
NODE_KEY: Final = "node.key"
NODE_CERTIFICATE: Final = "node.crt"

_INIT: Final = "`nanoexec hub init` makes it"
_JOIN: Final = "`nanoexec agent join` makes it"
_KEY_BEGINS: Final = "-----BEGIN PRIVATE KEY-----"
_CERTIFICATE_BEGINS: Final = "-----BEGIN CERTIFICATE-----"


class Authority(Value, frozen=True):
    """A certificate authority as PEM text: whoever has its key decides who is let in."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        return "Authority(...)"  # a key must not get into a log by way of a traceback


def write_hub(directory: Path, authority: Authority, credentials: Credentials) -> None:
    """Keep a new hub's identity. Raises `IdentityError` when there is one already, and `ConfigError`."""
    for name in (CA_KEY, CA_CERTIFICATE, HUB_KEY, HUB_CERTIFICATE):
        if os.path.lexists(directory / name):
            raise IdentityError(
                f"{directory / name} exists: this hub has an identity, which its nodes trust and which is never "
                "overwritten; to begin anew, move its .key and .crt files away"
            )
    _make_private(directory)
    _write(directory / CA_KEY, authority.key, 0o600)
    _write(directory / CA_CERTIFICATE, authority.certificate, 0o644)
    _write(directory / HUB_KEY, credentials.key, 0o600)
    _write(directory / HUB_CERTIFICATE, credentials.certificate, 0o644)


def write_node(directory: Path, credentials: Credentials) -> None:
    """Keep a node's identity, in the place of an earlier one. Raises `ConfigError`."""
    _make_private(directory)
    _write(directory / NODE_KEY, credentials.key, 0o600)
    _write(directory / CA_CERTIFICATE, credentials.ca, 0o644)
    _write(directory / NODE_CERTIFICATE, credentials.certificate, 0o644)


def load_hub(directory: Path) -> Credentials:
    """The hub's credentials. Raises `IdentityError`."""
    return _load(directory, HUB_CERTIFICATE, HUB_KEY, _INIT)


def load_node(directory: Path) -> Credentials:
    """A node's credentials. Raises `IdentityError`."""
    return _load(directory, NODE_CERTIFICATE, NODE_KEY, _JOIN)


def load_ca(directory: Path) -> Authority:
    """The hub's authority, to sign with. Raises `IdentityError`."""
    pair = _load(directory, CA_CERTIFICATE, CA_KEY, _INIT)
    return Authority(certificate=pair.certificate, key=pair.key)


def read_key(path: Path, advice: str) -> str:
    """A private key that only its owner can read, as PEM text. ``advice`` says where one comes from.

    Raises `IdentityError`.
    """
    text, mode = _read(path, advice)
    if mode & 0o077:
        raise IdentityError(f"{path}: readable by others (mode {mode:04o}): chmod 600 it")
    if not text.startswith(_KEY_BEGINS):
        raise IdentityError(f"{path}: not a private key in PEM without a passphrase; {advice}")
    return text


def _load(directory: Path, certificate_name: str, key_name: str, advice: str) -> Credentials:
    key = read_key(directory / key_name, advice)
    certificate = _read_certificate(directory / certificate_name, advice)
    ca = _read_certificate(directory / CA_CERTIFICATE, advice)
    _check(directory / CA_CERTIFICATE, directory / certificate_name, directory / key_name, advice)
    return Credentials(ca=ca, certificate=certificate, key=key)


def _check(ca: Path, certificate: Path, key: Path, advice: str) -> None:
    # A crash between two of the writes above leaves new beside old. Said here, it is one line with both files; said
    # by the first handshake, it would be a riddle.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca)
    except OSError as error:
        raise IdentityError(f"{ca}: cannot be used ({_reason(error)}); {advice}") from None
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        raise IdentityError(f"{key}: cannot be used with {certificate.name} ({_reason(error)}); {advice}") from None


def _reason(error: OSError) -> str:
    """What OpenSSL calls it, such as ``key values mismatch``. Its errors are a kind of `OSError`."""
    return str(getattr(error, "reason", None) or error.strerror or error).replace("_", " ").lower()


def _read_certificate(path: Path, advice: str) -> str:
    text, _ = _read(path, advice)
    if not text.startswith(_CERTIFICATE_BEGINS):
        raise IdentityError(f"{path}: not a certificate in PEM; {advice}")
    return text


def _read(path: Path, advice: str) -> tuple[str, int]:
    """Text and permission bits of one open file, so that both are of the same one."""
    try:
        with open_regular(path) as file:
            return file.read().decode("ascii"), stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    except FileNotFoundError:
        raise IdentityError(f"{path}: missing; {advice}") from None
    except UnicodeDecodeError:
        raise IdentityError(f"{path}: not PEM; {advice}") from None
    except OSError as error:
        raise IdentityError(f"{path}: cannot be read: {error.strerror or error}") from None


def _write(path: Path, text: str, mode: int) -> None:
    write_atomically(path, text.encode(), mode)


def _make_private(directory: Path) -> None:
    """The directory, for its owner only if it is made here. One that a package has made keeps its mode."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be made: {error.strerror or error}") from None
