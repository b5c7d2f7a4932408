"""Messages on a local stream socket: four bytes of length (big endian), one version byte, MessagePack."""

from typing import Final, TypeVar

import msgspec

from nanoexec.errors import ProtocolError
from nanoexec.model import Value
from nanoexec.wire.fault import FAULTS, plain

VERSION: Final = 1
MAX_MESSAGE: Final = 16 << 20  # bytes; a history of a thousand runs with their output fits
HEADER: Final = 4

_encoder: Final = msgspec.msgpack.Encoder()
_T = TypeVar("_T")


def encode(message: Value) -> bytes:
    """A message with its header. Raises `ProtocolError` when it is larger than a peer would accept."""
    body = bytes([VERSION]) + _encoder.encode(message)
    if len(body) > MAX_MESSAGE:
        raise ProtocolError(f"local message of {len(body)} bytes: at most {MAX_MESSAGE} may be sent")
    return len(body).to_bytes(HEADER, "big") + body


def length(header: bytes) -> int:
    """How many bytes follow a header. Raises `ProtocolError` for more than `MAX_MESSAGE`."""
    size = int.from_bytes(header, "big")
    if not 1 < size <= MAX_MESSAGE:
        raise ProtocolError(f"local message announces {size} bytes: 2 to {MAX_MESSAGE} are accepted")
    return size


def decode(decoder: msgspec.msgpack.Decoder[_T], body: bytes, what: str) -> _T:
    """The message in ``body``. Raises `ProtocolError`, which calls it ``what``."""
    if not body:
        raise ProtocolError(f"{what} is empty")
    if body[0] != VERSION:
        raise ProtocolError(
            f"{what} speaks local protocol {body[0]}, this side speaks {VERSION}: restart nanoexec's services"
        )
    try:
        return decoder.decode(memoryview(body)[1:])
    except FAULTS as error:
        raise ProtocolError(f"{what} of {len(body)} bytes: {plain(error)}") from None
