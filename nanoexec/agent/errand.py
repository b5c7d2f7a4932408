"""Asking the runner, over its unix socket: one connection, one request, its replies."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

from nanoexec.errors import UnavailableError
from nanoexec.wire import runner, stream


async def ask(path: Path, request: runner.Request) -> AsyncGenerator[runner.Reply, None]:
    """Every reply to the request, until the runner hangs up.

    Raises `UnavailableError` when the runner cannot be reached or goes away within a reply, `ProtocolError` for
    nonsense.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError as error:
        raise UnavailableError(f"the runner cannot be reached at {path}: {error.strerror or error}") from None
    try:
        writer.write(stream.encode(request))
        while header := await _header(reader):
            yield runner.decode_reply(await reader.readexactly(stream.length(header)))
    except (OSError, asyncio.IncompleteReadError) as error:
        raise UnavailableError(f"the runner hung up: {error}") from None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask_once(path: Path, request: runner.Request, within: float) -> runner.Reply:
    """The first reply. Raises as `ask`, also when it does not come within so many seconds."""
    try:
        async with asyncio.timeout(within), contextlib.aclosing(ask(path, request)) as replies:
            async for reply in replies:
                return reply
    except TimeoutError:
        raise UnavailableError(f"the runner at {path} did not answer within {within:.0f} s") from None
    raise UnavailableError(f"the runner at {path} hung up without an answer")


async def _header(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readexactly(stream.HEADER)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return b""
