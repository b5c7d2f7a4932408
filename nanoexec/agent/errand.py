"""Asking the runner, over its unix socket: one connection, one request, its replies.

On a bare socket: for the one short message that a run is, asyncio's streams take more than twice the processor time.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from nanoexec.errors import UnavailableError
from nanoexec.wire import runner, stream

_CHUNK: Final = 64 << 10  # bytes


async def ask(path: Path, request: runner.Request) -> AsyncGenerator[runner.Reply, None]:
    """Every reply to the request, until the one that is the last or the runner hangs up.

    Raises `UnavailableError` when the runner cannot be reached or goes away within a reply, `ProtocolError` for
    nonsense.
    """
    with _socket() as connection:
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(connection, str(path))
        except OSError as error:
            raise UnavailableError(f"the runner cannot be reached at {path}: {error.strerror or error}") from None
        try:
            await loop.sock_sendall(connection, stream.encode(request))
            received = bytearray()
            while await _fill(connection, received, stream.HEADER):
                size = stream.HEADER + stream.length(bytes(received[: stream.HEADER]))
                await _fill(connection, received, size)
                body = bytes(received[stream.HEADER : size])
                del received[:size]
                reply = runner.decode_reply(body)
                yield reply
                if _is_last(reply):
                    return
        except OSError as error:
            raise UnavailableError(f"the runner hung up: {error}") from None


def _is_last(reply: runner.Reply) -> bool:
    """Only of a run that goes on is there more to be told."""
    return not isinstance(reply, runner.Told) or reply.run.outcome is not None


def _socket() -> socket.socket:
    """Whoever asks must hear of it as of any other failure, or it would wait for its errand for ever."""
    try:
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise UnavailableError(f"the runner cannot be asked: {error.strerror}") from None


async def ask_once(path: Path, request: runner.Request, within: float) -> runner.Reply:
    """The first reply. Raises as `ask`, also when it does not come within so many seconds."""
    try:
        async with asyncio.timeout(within), contextlib.aclosing(ask(path, request)) as replies:
            async for reply in replies:
                return reply
    except TimeoutError:
        raise UnavailableError(f"the runner at {path} did not answer within {within:.0f} s") from None
    raise UnavailableError(f"the runner at {path} hung up without an answer")


async def _fill(connection: socket.socket, received: bytearray, size: int) -> bool:
    """Receive until there are ``size`` bytes; False when the runner hangs up before the first.

    Raises `UnavailableError` when it does so later.
    """
    loop = asyncio.get_running_loop()
    while len(received) < size:
        chunk = await loop.sock_recv(connection, _CHUNK)
        if not chunk and received:
            raise UnavailableError(f"the runner hung up: {len(received)} bytes on a total of {size} expected bytes")
        if not chunk:
            return False
        received += chunk
    return True
