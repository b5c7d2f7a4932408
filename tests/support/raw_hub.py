"""A hub that publishes whatever it is told to: ``python -m tests.support.raw_hub ROOT``, with the keys found there.

It lets every node in and welcomes it. Its first line of output holds its two ports. Then it reads one frame a line
(hex) from standard input and publishes it, and prints each question that a node asks as one line of JSON.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from nanoexec.cli.render import plain
from nanoexec.config import Paths
from nanoexec.keys import credentials
from nanoexec.transport import Peer
from nanoexec.transport.nng import NngHubTransport
from nanoexec.wire import network

EPOCH = "raw"
INTERVAL = 5.0  # seconds


def _say(line: object) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def beacon() -> bytes:
    return network.publish(
        network.TOPIC_HUB, network.Beacon(epoch=EPOCH, sequence=0, time=time.time(), interval=INTERVAL)
    )


async def _respond(peer: Peer, frame: bytes) -> bytes:
    question = network.decode_question(frame)
    kind = type(question).__name__.lower()
    _say({"node": peer.name, "kind": kind} | plain(question))
    now = time.time()
    if isinstance(question, network.Hello):
        return network.encode(network.Welcome(node=peer.name, epoch=EPOCH, sequence=0, time=now, interval=INTERVAL))
    return network.encode(network.Received(time=now))


async def _main(paths: Paths) -> None:
    address = "tls+tcp://127.0.0.1:0"
    transport = NngHubTransport(address, address, credentials.load_hub(paths.hub_state))
    exchange = await transport.serve(accept=lambda _: True, respond=_respond, notice=lambda _peer, _up: None)
    _say([exchange.publish_port, exchange.report_port])
    reader = asyncio.StreamReader(limit=8 * network.MAX_FRAME)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def beacons() -> None:
        while True:
            await exchange.publish(beacon())
            await asyncio.sleep(1)

    beating = asyncio.ensure_future(beacons())
    while line := await reader.readline():
        # Not by `publish`, which would not let out what is too long.
        exchange._publisher.send(bytes.fromhex(line.decode()), block=False)
    beating.cancel()
    await exchange.close()


if __name__ == "__main__":
    asyncio.run(_main(Paths(root=Path(sys.argv[1]))))
