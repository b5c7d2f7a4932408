"""One question to a daemon of this machine over its unix socket, and why there was no answer."""

import socket
import time
from pathlib import Path
from typing import Final

from nanoexec.errors import UnavailableError
from nanoexec.model import Value
from nanoexec.wire import stream

WITHIN: Final = 5.0  # seconds


class NotThereError(UnavailableError):
    """Nobody listens at the socket."""


class NotAllowedError(UnavailableError):
    """Somebody does, and this user may not open it."""


class HungUpError(UnavailableError):
    """It was opened, and closed by the other side without an answer."""


def ask(path: Path, request: Value, within: float = WITHIN) -> bytes:
    """The body of the first reply. Raises `UnavailableError`, mostly one of those here, and `ProtocolError`."""
    deadline = time.monotonic() + within
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(within)
        try:
            connection.connect(str(path))
        except PermissionError:
            raise NotAllowedError(f"{path}: this user may not open it") from None
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotThereError(f"{path}: nobody listens ({error.strerror})") from None
        except BlockingIOError:  # connect(2): what a socket with a timeout is told at once
            raise UnavailableError(f"{path}: so many wait that no more may: it is stuck or stopped") from None
        except OSError as error:
            raise UnavailableError(f"{path}: cannot connect: {error.strerror or error}") from None
        try:
            connection.sendall(stream.encode(request))
            header = _read(connection, stream.HEADER, deadline)
            body = _read(connection, stream.length(header), deadline) if header else b""
        except TimeoutError:
            raise UnavailableError(f"{path}: no answer within {within:g} s: it is stuck or stopped") from None
        except OSError:
            header = body = b""
    if not body:
        raise HungUpError(f"{path}: it hung up without an answer")
    return body


def _read(connection: socket.socket, size: int, deadline: float) -> bytes:
    """Exactly ``size`` bytes, or none when the peer stops before. Raises `OSError`."""
    data = b""
    while len(data) < size:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        part = connection.recv(size - len(data))
        if not part:
            return b""
        data += part
    return data
