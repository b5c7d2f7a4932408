"""What a bad middlebox does to TCP: ``python -m tests.chaos.proxy HOST PORT:PORT ...`` passes the first port on to the
second, on loopback, and does what lines on its standard input say. It answers each with ``done`` and how many
connections that has hit so far; the same line again goes on with it.

| line | what happens |
|---|---|
| ``pass`` | nothing more: everything is passed on, also what was held back |
| ``reset`` | every connection gets a reset, both ways |
| ``truncate`` | every connection ends within the next bytes that come through it, the rest of them is lost |
| ``hold`` | what comes in is acknowledged and goes nowhere: silence, on a connection that looks sound |
| ``delay SECONDS`` | each piece waits up to so long; order stays |
| ``crumble`` | everything is passed on in pieces of some bytes |
"""

import asyncio
import os
import random
import socket
import struct
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final, Self

from tests.chaos.companion import Companion

_CHUNK: Final = 64 << 10  # bytes
_CRUMB: Final = 7


class Middlebox:
    """The proxy's own process: every connection through it, and what is done to them now.

    ``hit``: one end of each connection that has felt it.
    """

    def __init__(self) -> None:
        self.hit: set[asyncio.StreamWriter] = set()
        self._line = ""
        self._writers: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}  # each with its connection's near end
        self._dice = random.Random(os.getpid())  # noqa: S311 - where to cut; nothing secret hangs on it
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._delay = 0.0
        self._crumb = 0
        self._cutting: set[asyncio.StreamWriter] = set()

    def obey(self, line: str) -> None:
        """Do what a line says."""
        if line != self._line:
            self._line = line
            self.hit.clear()
        match line.split():
            case ["pass"]:
                self._delay, self._crumb = 0.0, 0
                self._cutting.clear()
                self._flowing.set()
            case ["reset"]:
                self.hit.update(self._writers.values())
                for writer in tuple(self._writers):
                    _reset(writer)
            case ["truncate"]:
                self._cutting = set(self._writers)
            case ["hold"]:
                self._flowing.clear()
            case ["delay", seconds]:
                self._delay = float(seconds)
            case ["crumble"]:
                self._crumb = _CRUMB
            case _:
                raise ValueError(line)

    async def serve(self, host: str, outer: int, inner: int) -> None:
        """Listen."""

        async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", inner)
            except OSError:
                _reset(writer)
                return
            self._writers |= {writer: writer, far_writer: writer}
            try:
                with suppress(asyncio.CancelledError):  # at the very end; asyncio would complain
                    await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
            finally:
                self._cutting -= {writer, far_writer}
                for end in (writer, far_writer):
                    del self._writers[end]
                    end.close()

        await asyncio.start_server(connect, host, outer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                for piece in self._pieces(data, writer):
                    if self._delay:
                        self._feels_it(writer)
                        await asyncio.sleep(self._dice.uniform(0, self._delay))
                    if not self._flowing.is_set():
                        self._feels_it(writer)
                        await self._flowing.wait()
                    if writer in self._cutting:
                        self._feels_it(writer)
                        writer.write(piece[: self._dice.randrange(len(piece))])
                        writer.close()
                        return
                    writer.write(piece)
                    await writer.drain()
        with suppress(OSError):
            writer.close()

    def _pieces(self, data: bytes, writer: asyncio.StreamWriter) -> Iterator[bytes]:
        if self._crumb and len(data) > self._crumb:
            self._feels_it(writer)
        size = self._crumb or len(data)
        return (data[start : start + size] for start in range(0, len(data), size))

    def _feels_it(self, writer: asyncio.StreamWriter) -> None:
        self.hit.add(self._writers[writer])


def _reset(writer: asyncio.StreamWriter) -> None:
    found = writer.get_extra_info("socket")
    if found is not None:
        with suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Proxy:
    """Such a process, as its master sees it; a context manager. ``before`` is put before its command."""

    def __init__(self, before: Sequence[str], host: str, *ports: tuple[int, int]) -> None:
        self._before = before
        self._words = [host, *(f"{outer}:{inner}" for outer, inner in ports)]
        self._process: Companion | None = None

    def __enter__(self) -> Self:
        self._process = Companion("tests.chaos.proxy", *self._words, before=self._before)
        self.tell("pass")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        assert self._process
        self._process.end()

    def tell(self, line: str) -> int:
        """Have it do something, or go on with it: how many connections that has hit so far."""
        assert self._process
        self._process.say(line)
        said = self._process.hear().split()
        if said[:1] != ["done"]:
            raise RuntimeError(f"the proxy did not understand {line!r}, or has ended")
        return int(said[1])


async def _main(host: str, *pairs: str) -> None:
    box = Middlebox()
    for pair in pairs:
        outer, _, inner = pair.partition(":")
        await box.serve(host, int(outer), int(inner))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        box.obey(line.decode())
        print("done", len(box.hit), flush=True)  # noqa: T201 - this is how it answers


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_main(*sys.argv[1:]))
