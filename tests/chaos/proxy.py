"""What a bad middlebox does to TCP: ``python -m tests.chaos.proxy HOST PORT:PORT ...`` passes the first port on to the
second, on loopback, and does what lines on its standard input say; it answers each with ``done``.

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
import subprocess
import sys
import types
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self

_CHUNK: Final = 64 << 10  # bytes
_CRUMB: Final = 7


class Middlebox:
    """The proxy's own process: every connection through it, and what is done to them now."""

    def __init__(self) -> None:
        self._writers: set[asyncio.StreamWriter] = set()
        self._dice = random.Random(os.getpid())  # noqa: S311 - where to cut; nothing secret hangs on it
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._delay = 0.0
        self._crumb = 0
        self._cutting: set[asyncio.StreamWriter] = set()

    def obey(self, line: str) -> None:
        """Do what a line says."""
        match line.split():
            case ["pass"]:
                self._delay, self._crumb = 0.0, 0
                self._cutting.clear()
                self._flowing.set()
            case ["reset"]:
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
            self._writers |= {writer, far_writer}
            try:
                with suppress(asyncio.CancelledError):  # at the very end; asyncio would complain
                    await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
            finally:
                self._writers -= {writer, far_writer}
                self._cutting -= {writer, far_writer}
                for end in (writer, far_writer):
                    end.close()

        await asyncio.start_server(connect, host, outer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(self._crumb or _CHUNK):
                if self._delay:
                    await asyncio.sleep(self._dice.uniform(0, self._delay))
                await self._flowing.wait()
                if writer in self._cutting:
                    writer.write(data[: self._dice.randrange(len(data))])
                    break
                writer.write(data)
                await writer.drain()
        with suppress(OSError):
            writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    found = writer.get_extra_info("socket")
    if found is not None:
        with suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Proxy:
    """Such a process, as its master sees it; a context manager. ``before`` is put before its command."""

    def __init__(self, before: Sequence[str], host: str, *ports: tuple[int, int]) -> None:
        pairs = [f"{outer}:{inner}" for outer, inner in ports]
        self._words = [*before, sys.executable, "-m", "tests.chaos.proxy", host, *pairs]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.tell("pass")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        assert self._process
        self._process.communicate()  # closes its input, with which it ends

    def tell(self, line: str) -> None:
        """Have it do something; it is done when this returns."""
        assert self._process
        assert self._process.stdin
        assert self._process.stdout
        print(line, file=self._process.stdin, flush=True)
        if self._process.stdout.readline() != "done\n":
            raise RuntimeError(f"the proxy did not understand {line!r}, or has ended")


async def _main(host: str, *pairs: str) -> None:
    box = Middlebox()
    for pair in pairs:
        outer, _, inner = pair.partition(":")
        await box.serve(host, int(outer), int(inner))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        box.obey(line.decode())
        print("done", flush=True)  # noqa: T201 - this is how it answers


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_main(*sys.argv[1:]))
