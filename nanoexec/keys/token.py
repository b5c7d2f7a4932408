"""Join tokens: one line to paste that names the hub, pins its CA and carries a one-time secret.

``hub.example.net.`` and 48 characters of base64url: 16 bytes pin, 16 bytes secret, 4 bytes checksum over all before
them, which tells a slip of the hand from a wrong token. 36 bytes fill base64 exactly, so that a token has one spelling.
"""

import base64
import hashlib
import hmac
import re
import ssl
from typing import Annotated, Final

import msgspec

from nanoexec.errors import IdentityError, UsageError
from nanoexec.model import NodeName, Value

PIN: Final = 16  # bytes
SECRET: Final = 16  # bytes
_CHECK: Final = 4  # bytes
_LENGTH: Final = (PIN + SECRET + _CHECK) * 4 // 3  # characters
_CONTEXT: Final = b"nanoexec token 1\0"
_ALPHABET: Final = re.compile(rf"[A-Za-z0-9_-]{{{_LENGTH}}}")
_ONE_CERTIFICATE: Final = re.compile(
    r"\s*-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END CERTIFICATE-----\s*", re.ASCII
)


class Token(Value, frozen=True):
    """What a machine needs to join: the hub's name, its CA's pin, and a secret of which the hub knows the digest."""

    hub: NodeName
    pin: Annotated[bytes, msgspec.Meta(min_length=PIN, max_length=PIN)]
    secret: Annotated[bytes, msgspec.Meta(min_length=SECRET, max_length=SECRET)]

    def __repr__(self) -> str:
        return f"Token(hub={self.hub!r}, ...)"  # the secret must not get into a log by way of a traceback


def encode(token: Token) -> str:
    """The line to paste."""
    body = token.pin + token.secret
    return f"{token.hub}.{base64.urlsafe_b64encode(body + _checksum(token.hub, body)).decode()}"


def decode(text: str) -> Token:
    """The token in a pasted line. Raises `UsageError`, which never repeats the line: it may hold a good secret."""
    hub, _, code = text.strip().rpartition(".")
    if not hub.isascii() or not _ALPHABET.fullmatch(code):
        raise UsageError(
            f"this is not a join token: expected the hub's name, a dot and {_LENGTH} letters, digits, hyphens or "
            "underscores; copy it again, whole"
        )
    raw = base64.urlsafe_b64decode(code)
    body, check = raw[:-_CHECK], raw[-_CHECK:]
    if check != _checksum(hub, body):
        raise UsageError("the join token is damaged (its checksum does not match): copy it again, whole")
    try:
        return msgspec.convert({"hub": hub, "pin": body[:PIN], "secret": body[PIN:]}, Token)
    except msgspec.ValidationError:
        raise UsageError("the join token names its hub in a way that no hub is named: ask for a new one") from None


def digest(secret: bytes) -> str:
    """What the hub keeps of a secret: its SHA-256, in hex. To look one up by it needs no constant time: whoever could
    time the search cannot choose the digest.
    """
    return hashlib.sha256(secret).hexdigest()


def pin_of(ca: str) -> bytes:
    """The pin of a CA: the first 16 bytes of its certificate's SHA-256. Raises `IdentityError`."""
    return _pin(_der(ca))


def check_pin(token: Token, ca: str) -> str:
    """The CA that a hub showed, if it is the one in the token, as PEM text to trust. Raises `IdentityError`."""
    der = _der(ca)
    if not hmac.compare_digest(_pin(der), token.pin):
        raise IdentityError(
            f"the machine that answers for {token.hub} has another CA than the join token says: "
            "the token is of another hub, or somebody stands between; nothing was sent to it"
        )
    return ssl.DER_cert_to_PEM_cert(der)  # written anew, so that what was compared is all that is trusted


def _pin(der: bytes) -> bytes:
    return hashlib.sha256(der).digest()[:PIN]


def _der(pem: str) -> bytes:
    """Exactly one certificate. `ssl.PEM_cert_to_DER_cert` stops reading at the padding: it would overlook a second
    certificate behind the pinned one, and a TLS library that was given this text would trust both.
    """
    try:
        block = _ONE_CERTIFICATE.fullmatch(pem)
        der = base64.b64decode("".join(block[1].split()), validate=True) if block else b""
    except ValueError:
        der = b""
    if not der:
        raise IdentityError("the CA certificate is not exactly one certificate in PEM")
    return der


def _checksum(hub: str, body: bytes) -> bytes:
    return hashlib.sha256(_CONTEXT + hub.encode() + b"\0" + body).digest()[:_CHECK]
