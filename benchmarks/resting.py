"""What an idle fleet costs: memory and CPU."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.fleet import spent
from benchmarks.processes import memory_kib
from tests.support.fleet import Fleet

WATCHED = 60.0  # seconds
_BARE = "import {module}, sys; print(flush=True); sys.stdin.read()"


def memory(fleet: Fleet) -> dict[str, float]:
    """Memory of one agent and one runner in MB (PSS, median), and of an interpreter beside them that does nothing."""
    time.sleep(3)
    parts = {one: _median(fleet, one) for one in ("agent", "runner")}
    return parts | {f"import {module}": _bare(module) for module in ("pynng", "sys")}


def measure(fleet: Fleet, alone: dict[str, float]) -> list[str]:
    """A Markdown section. ``alone``: `memory` on a machine with one node, which shares little with other Pythons."""
    time.sleep(5)
    before = spent(fleet)
    began = time.perf_counter()
    time.sleep(WATCHED)
    seconds = time.perf_counter() - began
    cpu = {name: 100 * (after - before[name]) / seconds for name, after in spent(fleet).items()}
    nodes = len(fleet.nodes)
    rows = [
        f"## An idle fleet of {nodes}, watched for {seconds:.0f} s",
        "",
        "| | CPU, % of a core |",
        "|---|---|",
        f"| one agent (needed: under 0.1) | {cpu['agents'] / nodes:.3f} |",
        f"| one runner, not socket-activated | {cpu['runners'] / nodes:.4f} |",
        f"| the hub (needed: under 1) | {cpu['hub']:.2f} |",
        "",
        "| memory, PSS in MB | beside the whole fleet, median | on a machine with one node |",
        "|---|---|---|",
    ]
    needed = {"agent": " (needed: at most 20)", "runner": " (needed: at most 12)"}
    rows += [
        f"| {name}{needed.get(name, ', nothing else')} | {crowded:.1f} | {alone[name]:.1f} |"
        for name, crowded in memory(fleet).items()
    ]
    assert fleet.hub.process is not None
    hub = memory_kib(fleet.hub.process.pid) / 1024
    return [*rows, f"| hub with {nodes} nodes | {hub:.1f} | |", ""]


def _median(fleet: Fleet, one: str) -> float:
    services = [getattr(node, one).process for node in fleet.nodes.values()]
    return statistics.median(memory_kib(service.pid) for service in services) / 1024


def _bare(module: str) -> float:
    with subprocess.Popen(
        [sys.executable, "-c", _BARE.format(module=module)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return memory_kib(process.pid) / 1024


def machine() -> str:
    """One line about where this was measured."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), "unknown")
    load = os.getloadavg()[0]
    versions = f"Linux {os.uname().release}, Python {sys.version.split()[0]}"
    return f"{os.cpu_count()} cores of {model}, {versions}, load average {load:.1f}"
