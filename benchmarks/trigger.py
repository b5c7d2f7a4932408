"""A cold ``nanoexec trigger ALL:true`` over all nodes, against the bare yardstick in the same run."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.fleet import spent
from benchmarks.yardstick import Yardstick
from tests.support.fleet import Fleet

REST = 3.0  # seconds after each round, in which the agents look at their journals
NEEDED = 4.0


def measure(fleet: Fleet, rounds: int) -> list[str]:
    """A Markdown section."""
    nodes = len(fleet.nodes)
    ours, cold, warm = [], [], []
    command = [str(Path(sys.executable).with_name("nanoexec")), "trigger", "--root", str(fleet.root), "ALL:true"]
    before, cli = spent(fleet), 0.0
    with Yardstick(nodes) as yardstick:
        for _ in range(rounds + 1):  # the first round of each warms up and does not count
            warm.append(yardstick.round())
            cold.append(yardstick.cold_round())
            began = time.perf_counter()
            said, cpu = _run(command)
            ours.append(time.perf_counter() - began)
            assert f"{nodes} succeeded" in said, said
            cli += cpu / (rounds + 1)
            time.sleep(REST)
    after = spent(fleet)
    ours, cold, warm = ours[1:], cold[1:], warm[1:]
    parts = {name: 1000 * (after[name] - before[name]) / (rounds + 1) for name in before} | {"command line": 1000 * cli}
    return [
        f"## Trigger to all of {nodes} nodes, {rounds} rounds",
        "",
        "| | p50 | p95 | min | max |",
        "|---|---|---|---|---|",
        _row("`nanoexec trigger ALL:true`, a cold command", ours, " s"),
        _row("yardstick, a cold command too", cold, " s"),
        _row(f"ratio of the two, round by round (needed: at most {NEEDED:g})", _ratios(ours, cold), ""),
        _row("yardstick without any command, from its frame to the last answer", warm, " s"),
        _row("ratio to that", _ratios(ours, warm), ""),
        "",
        "Where the time goes, CPU milliseconds a round (the agents' look at the journal afterwards included):",
        "",
        "| part | ms | ms a node |",
        "|---|---|---|",
        *(f"| {name} | {spent_ms:.0f} | {spent_ms / nodes:.2f} |" for name, spent_ms in parts.items()),
        "",
    ]


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def _row(name: str, values: list[float], unit: str) -> str:
    shown = (statistics.median(values), _p95(values), min(values), max(values))
    return " | ".join([f"| {name}", *(f"{value:.3f}{unit}" for value in shown)]) + " |"


def _p95(values: list[float]) -> float:
    return sorted(values)[max(0, round(0.95 * len(values)) - 1)]


def _run(command: list[str]) -> tuple[str, float]:
    """What a command says on standard error, and its CPU seconds."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said
    return said, usage.ru_utime + usage.ru_stime
