"""``python -m benchmarks [--nodes N] [--rounds N]``: measure everything, print Markdown (for docs/benchmarks.md)."""

import argparse
import sys

from benchmarks import crontabs, resting, scheduled, serving, trigger
from benchmarks.fleet import fleet_of
from benchmarks.processes import memory_kib


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--only", choices=["trigger", "resting", "serving", "fallback"])
    wanted = parser.parse_args()
    sections = [
        f"Measured on {resting.machine()}. The nodes' state lies in memory (tmpfs), for they share one disk here.",
        "",
    ]
    with fleet_of(1) as alone:
        assert alone.hub.process is not None
        empty_hub = memory_kib(alone.hub.process.pid, "Rss")
        memory = resting.memory(alone)
    with fleet_of(wanted.nodes) as fleet:
        if wanted.only in (None, "trigger"):
            sections += trigger.measure(fleet, wanted.rounds)
        if wanted.only in (None, "resting"):
            sections += resting.measure(fleet, memory)
        if wanted.only in (None, "serving"):
            sections += serving.measure(fleet, empty_hub)
    if wanted.only in (None, "fallback"):
        sections += [*scheduled.measure(), *crontabs.measure()]
    sys.stdout.write("\n".join(sections) + "\n")


main()
