"""A cold ``nanoexec trigger ALL:true`` over all nodes, against the bare yardstick in the same run."""

import resource
import statistics
import subprocess
import sys
import time

from benchmarks.fleet import spent
from benchmarks.yardstick import Yardstick
from tests.support.fleet import Fleet

REST = 3.0  # seconds after each round, in which the agents look at their journals
NEEDED = 4.0


def measure(fleet: Fleet, rounds: int) -> list[str]:
    """A Markdown section."""
    nodes = len(fleet.nodes)
    ours, theirs = [], []
    command = [sys.executable, "-m", "nanoexec", "trigger", "--root", str(fleet.root), "ALL:true"]
    before, cli_before = spent(fleet), _children()
    with Yardstick(nodes) as yardstick:
        for _ in range(rounds + 1):  # the first round of each warms up and does not count
            theirs.append(yardstick.round())
            began = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            ours.append(time.perf_counter() - began)
            assert done.returncode == 0, done.stdout + done.stderr
            assert f"{nodes} succeeded" in done.stderr, done.stderr
            time.sleep(REST)
        cli = (_children() - cli_before) / (rounds + 1)
    after = spent(fleet)
    ours, theirs = ours[1:], theirs[1:]
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    parts = {name: 1000 * (after[name] - before[name]) / (rounds + 1) for name in before} | {"command line": 1000 * cli}
    return [
        f"## Trigger to all of {nodes} nodes, {rounds} rounds",
        "",
        "| | p50 | p95 | min | max |",
        "|---|---|---|---|---|",
        _row("yardstick (no TLS, no record; process already running)", theirs),
        _row("`nanoexec trigger ALL:true`, cold", ours),
        (
            f"| ratio, round by round (needed: at most {NEEDED:g}) | {statistics.median(ratios):.2f} "
            f"| {_p95(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f} |"
        ),
        "",
        "Where the time goes, CPU milliseconds a round (the agents' look at the journal afterwards included):",
        "",
        "| part | ms | ms a node |",
        "|---|---|---|",
        *(f"| {name} | {spent_ms:.0f} | {spent_ms / nodes:.2f} |" for name, spent_ms in parts.items()),
        "",
    ]


def _row(name: str, seconds: list[float]) -> str:
    return (
        f"| {name} | {statistics.median(seconds):.3f} s | {_p95(seconds):.3f} s "
        f"| {min(seconds):.3f} s | {max(seconds):.3f} s |"
    )


def _p95(values: list[float]) -> float:
    return sorted(values)[max(0, round(0.95 * len(values)) - 1)]


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
