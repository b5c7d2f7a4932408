"""A node that says whatever it is told to: ``python -m tests.support.raw_node ROOT``, with the certificate found there.

Reads one frame a line (hex) from standard input, sends each on a connection of its own to the hub, and prints for each
one line of JSON: the answer, or ``{"kind": "lost"}`` when the hub hung up or kept silent. A process of its own, since
whoever has opened an NNG socket must never fork.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from nanoexec.agent.identity import read_identity
from nanoexec.config import Paths
from nanoexec.transport import LinkLostError
from nanoexec.transport.nng import NngNodeTransport

WITHIN = 5.0  # seconds


def _say(line: object) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def _ask(node: NngNodeTransport, frame: bytes) -> dict[str, Any]:
    link = await node.dial((b"ALL:",), WITHIN)
    try:
        answer = await link.request(frame, WITHIN)
        return dict(msgspec.msgpack.decode(answer[1:]))
    except LinkLostError:
        return {"kind": "lost"}
    finally:
        await link.close()


async def _main(paths: Paths, frames: list[bytes]) -> None:
    identity = read_identity(paths)
    config = identity.config
    node = NngNodeTransport(
        f"tls+tcp://{config.hub}:{config.publish_port}",
        f"tls+tcp://{config.hub}:{config.report_port}",
        identity.credentials,
        identity.hub_name,
    )
    for frame in frames:
        _say(await _ask(node, frame))


if __name__ == "__main__":
    asyncio.run(_main(Paths(root=Path(sys.argv[1])), [bytes.fromhex(line) for line in sys.stdin]))
