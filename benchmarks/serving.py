"""What the hub can take: memory for each connected node, requests answered a second."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.processes import cpu_seconds, memory_kib
from nanoexec import clock
from nanoexec.agent.identity import read_identity
from nanoexec.config import Paths
from nanoexec.transport import Link
from nanoexec.transport.nng import NngNodeTransport
from nanoexec.wire import network
from tests.support.fleet import Fleet

SECONDS = 5.0


def measure(fleet: Fleet, empty_hub_kib: int) -> list[str]:
    """A Markdown section. ``empty_hub_kib``: the hub's memory before any node was connected."""
    assert fleet.hub.process is not None
    hub = fleet.hub.process.pid
    per_node = (memory_kib(hub, "Rss") - empty_hub_kib) / len(fleet.nodes)
    before = cpu_seconds(hub)
    # In a process of its own: one that has opened NNG sockets must not fork the fleet's commands.
    roots = [str(node.root) for node in list(fleet.nodes.values())[:50]]
    rate = _in_own_process(roots)
    busy = (cpu_seconds(hub) - before) / SECONDS
    return [
        "## The hub",
        "",
        "| | |",
        "|---|---|",
        f"| memory (RSS) for each connected node | {per_node:.0f} KiB |",
        f"| requests answered a second (heartbeats over TLS, {len(roots)} clients on the same cores) | {rate:.0f} |",
        f"| the hub's share of a core meanwhile | {100 * busy:.0f} % |",
        "",
    ]


def _in_own_process(roots: list[str]) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving", *roots], stdout=subprocess.PIPE, text=True, check=True
    )
    return float(done.stdout)


async def _ask(links: list[Link], until: Callable[[], bool]) -> int:
    async def ask(link: Link) -> int:
        count = 0
        while not until():
            hello = network.Hello(version="bench", time=clock.now().wall)
            answer = network.decode_answer(await link.request(network.encode(hello), 10.0))
            assert isinstance(answer, network.Welcome)
            count += 1
        return count

    return sum(await asyncio.gather(*map(ask, links)))


async def _requests_a_second(roots: list[str]) -> float:
    links: list[Link] = []
    for root in roots:
        own = read_identity(Paths(root=Path(root)))
        ports = (own.config.publish_port, own.config.report_port)
        publish, report = (f"tls+tcp://{own.config.hub}:{port}" for port in ports)
        transport = NngNodeTransport(publish, report, own.credentials, own.hub_name)
        links.append(await transport.dial([network.TOPIC_HUB], 10.0))
    end = time.perf_counter() + SECONDS
    count = await _ask(links, lambda: time.perf_counter() > end)
    for link in links:
        await link.close()
    return count / SECONDS


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(_requests_a_second(sys.argv[1:])):.1f}\n")
