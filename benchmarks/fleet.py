"""A hundred real nodes on this machine: each its own root, runner and agent."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import children_seconds, cpu_seconds
from tests.support.fleet import Fleet, FleetNode, wait_until

RAM = Path("/dev/shm")  # noqa: S108 - a hundred nodes must not share one disk's fsync


@contextmanager
def fleet_of(count: int) -> Iterator[Fleet]:
    """A fleet of so many nodes with the action ``true``, connected, its state in memory."""
    before, tempfile.tempdir = tempfile.tempdir, str(RAM) if RAM.is_dir() else None
    try:
        with Fleet(beacon_interval=15.0) as fleet:
            token = fleet.run("hub", "token", "--uses", str(count)).stdout.strip()

            def join(number: int) -> FleetNode:
                node = FleetNode(fleet, f"node{number:03}")
                fleet.run("agent", "join", f"localhost:{fleet.join_port}", token, "--name", node.name, root=node.root)
                node.action("true", "command = ['/bin/true']\n")
                return node

            with ThreadPoolExecutor(4) as pool:
                for node in pool.map(join, range(count)):
                    fleet.nodes[node.name] = node
            for node in fleet.nodes.values():
                node.start()
            wait_until(lambda: len(fleet.connected()) == count, "all are connected", 180)
            yield fleet
    finally:
        tempfile.tempdir = before


def spent(fleet: Fleet) -> dict[str, float]:
    """CPU seconds so far, by part."""
    agents = [node.agent.process.pid for node in fleet.nodes.values() if node.agent.process]
    runners = [node.runner.process.pid for node in fleet.nodes.values() if node.runner.process]
    assert fleet.hub.process is not None
    return {
        "hub": cpu_seconds(fleet.hub.process.pid),
        "agents": sum(map(cpu_seconds, agents)),
        "runners": sum(map(cpu_seconds, runners)),
        "runs and their supervisors": sum(map(children_seconds, runners)),
    }
