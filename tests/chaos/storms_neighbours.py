"""Bad neighbours of a hub: ``python -m tests.chaos.storms_neighbours KIND PLAN COUNT SEED``, until standard input ends.

KIND is one of

deaf      has a good certificate and subscribes, or asks a few hundred questions; never reads a byte of what it is sent
silent    opens TCP connections and says nothing
garbage   opens a connection, sends some random bytes (sometimes the beginning of a handshake), and hangs up
revoked   has a certificate that is out, and dials again as soon as it is turned away, each from an address of its own

Each on both of the hub's ports. It prints a line when all of them are at work, another when COUNT connections, or
questions of the deaf, are made and no more will be (the silent and the revoked have no such end), and at the end how
many they were.
"""

import asyncio
import contextlib
import itertools
import random
import socket
import ssl
import struct
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from nanoexec import __version__
from nanoexec.wire import network
from tests.chaos.crowd import Member, Plan

SUB, REQ = 0x21, 0x30  # the protocol numbers of NNG's scalability protocols
AT_ONCE = 16  # connections of garbage
PACE = 0.0025  # seconds between two questions of those who are deaf
Report = Callable[[], None]


def _context(member: Member) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=member.credentials.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(member.credentials.certificate + member.credentials.key)
        file.flush()
        context.load_cert_chain(file.name)
    return context


def _opening(protocol: int) -> bytes:
    return b"\0SP\0" + struct.pack(">HH", protocol, 0)


def _framed(body: bytes) -> bytes:
    return struct.pack(">Q", len(body)) + body


async def _speak(plan: Plan, member: Member, port: int, protocol: int) -> tuple[asyncio.StreamReader, Any]:
    """A connection as NNG makes it, over a socket that holds as little as the kernel allows."""
    bare = socket.socket()
    bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    bare.setblocking(False)
    await asyncio.get_running_loop().sock_connect(bare, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(
        sock=bare, ssl=_context(member), server_hostname=plan.hub, limit=1024
    )
    writer.write(_opening(protocol))
    await writer.drain()
    return reader, writer


async def _deaf(plan: Plan, count: int, chance: random.Random, made: Report) -> list[asyncio.StreamWriter]:
    """What is returned stays open as long as its task is there."""
    held, askers = [], []
    for member in plan.members:
        for port, protocol in ((plan.publish_port, SUB), (plan.report_port, REQ)):
            _, writer = await _speak(plan, member, port, protocol)
            writer.transport.pause_reading()
            held.append(writer)
            if protocol == REQ:
                askers.append(writer)
            made()
    hello = network.encode(network.Hello(version=__version__, time=0.0))
    for number in range(count - len(held)):
        writer = askers[number % len(askers)]
        writer.write(_framed(struct.pack(">I", 1 << 31 | chance.getrandbits(31)) + hello))
        await writer.drain()
        made()
        await asyncio.sleep(PACE)
    return held


async def _silent(plan: Plan, count: int, _: random.Random, made: Report) -> None:
    async def one(port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        made()
        try:
            await asyncio.Event().wait()
        finally:
            writer.close()

    await _all(*(one(port) for number in range(count) for port in ((plan.publish_port, plan.report_port)[number % 2],)))


async def _garbage(plan: Plan, count: int, chance: random.Random, made: Report) -> None:
    left = iter(range(count))

    async def some() -> None:
        for number in left:
            port = (plan.publish_port, plan.report_port)[number % 2]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            beginning = b"\x16\x03\x01" if chance.random() < 0.3 else b""
            writer.write(beginning + chance.randbytes(chance.randrange(1, 2000)))
            with contextlib.suppress(OSError, TimeoutError):
                await writer.drain()
                async with asyncio.timeout(0.2):
                    await reader.read(1)
            writer.close()
            made()

    await _all(*(some() for _ in range(AT_ONCE)))


async def _revoked(plan: Plan, _: int, __: random.Random, made: Report) -> None:
    async def one(place: int, member: Member) -> None:
        context = _context(member)
        for turn in itertools.count(place):
            port = (plan.publish_port, plan.report_port)[turn % 2]
            made()  # a dial, whether or not anybody takes it
            with contextlib.suppress(OSError):  # refused, reset: whatever it is, at once again
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, local_addr=(f"127.0.1.{place + 1}", 0), ssl=context, server_hostname=plan.hub
                )
                writer.write(_opening(SUB))
                data = b""
                while chunk := await reader.read(64):  # until it is turned away: all that comes is how NNG says hello
                    data += chunk
                    assert len(data) <= len(_opening(SUB)), f"a revoked node has heard {data!r}"
                writer.close()

    await _all(*(one(place, member) for place, member in enumerate(plan.members)))


async def _all(*work: Awaitable[None]) -> None:
    await asyncio.gather(*work)


KINDS: dict[str, Callable[[Plan, int, random.Random, Report], Coroutine[Any, Any, Any]]] = {
    "deaf": _deaf,
    "silent": _silent,
    "garbage": _garbage,
    "revoked": _revoked,
}


async def _main(kind: str, plan: Plan, count: int, seed: int) -> None:
    attempts = 0
    all_of_them = {"silent": count, "garbage": AT_ONCE}.get(kind, 2 * len(plan.members))

    def made() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == all_of_them:
            sys.stdout.write("at work\n")
            sys.stdout.flush()

    working = asyncio.ensure_future(KINDS[kind](plan, count, random.Random(seed), made))  # noqa: S311 - no secret
    leaving = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        working.result()
        sys.stdout.write("done\n")
        sys.stdout.flush()
        await leaving
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    sys.stdout.write(f"{attempts}\n")


if __name__ == "__main__":
    told = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=Plan)
    asyncio.run(_main(sys.argv[1], told, int(sys.argv[3]), int(sys.argv[4])))
