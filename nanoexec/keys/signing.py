"""Signatures on triggers: Ed25519 over the exact bytes of an order's body (RFC 8032).

An operator keeps the private key; a node's ``agent.toml`` lists the public keys, and with any listed it runs only what
one of them has signed. The hub relays signatures and need not be trusted with a key.
"""

import base64
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from nanoexec.errors import ConfigError, IdentityError, RefusedError


def make_signing_key() -> str:
    """A new private key, as PEM text (PKCS #8, no passphrase)."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_line(key: str) -> str:
    """The public half of a private key, as ``signers`` in ``agent.toml`` wants it. Raises `IdentityError`."""
    return base64.b64encode(_load(key).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def sign(key: str, body: bytes) -> bytes:
    """The signature over ``body``, 64 bytes. Raises `IdentityError` for a key that is not Ed25519 in PEM."""
    return _load(key).sign(body)


def verify(signers: Sequence[str], body: bytes, signature: bytes) -> None:
    """Raises `RefusedError` unless one of ``signers`` has signed ``body``, whatever the body is.

    Raises `ConfigError` when any of the signers is not a key, even if another one has signed: a slip in the
    configuration is told on the first trigger, not on the day that the other key is needed. No signers accept nothing.
    """
    keys = [_signer(index, line) for index, line in enumerate(signers)]
    if not signature:
        raise RefusedError("trigger is not signed; this node runs only signed triggers")
    if not any(_signed_by(key, body, signature) for key in keys):
        whom = "this node's signer" if len(keys) == 1 else f"any of this node's {len(keys)} signers"
        raise RefusedError(f"signature is not by {whom}")


def _signed_by(key: Ed25519PublicKey, body: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, body)
    except InvalidSignature:
        return False
    return True


def _signer(index: int, line: str) -> Ed25519PublicKey:
    try:
        raw = base64.b64decode(line, validate=True)
        return Ed25519PublicKey.from_public_bytes(raw)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(
            f"agent.toml: signers[{index}]: not an Ed25519 public key, which is 32 bytes in base64 (44 characters)"
        ) from None


def _load(key: str) -> Ed25519PrivateKey:
    try:
        loaded = load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise IdentityError("signing key: not a private key in PEM without a passphrase") from None
    if not isinstance(loaded, Ed25519PrivateKey):
        raise IdentityError("signing key: it must be Ed25519")
    return loaded
