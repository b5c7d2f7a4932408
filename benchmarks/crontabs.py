"""How long `nanoexec cron scan` looks at 1,000 crontabs of 100 lines. ``python -m benchmarks.crontabs``."""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from nanoexec.catalog import read_catalog
from nanoexec.config import Paths
from nanoexec.crontab.scan import Found, scan

FILES = 1000
LINES = 100
ROUNDS = 5


def measure() -> list[str]:
    """A Markdown section."""
    with tempfile.TemporaryDirectory(prefix="nanoexec-crontabs-") as scratch:
        paths = Paths(root=Path(scratch))
        jobs = _fill(paths.root / "etc/cron.d")
        catalog = read_catalog(paths)
        seconds, busy = [], []
        for _ in range(ROUNDS):
            began, used = time.perf_counter(), time.process_time()
            findings = scan(paths, catalog)
            seconds.append(time.perf_counter() - began)
            busy.append(time.process_time() - used)
        assert sum(finding.kind is Found.JOB for finding in findings) == jobs
        assert sum(finding.taken for finding in findings) == FILES
    return [
        "## Crontabs",
        "",
        f"| scan of {FILES} crontabs of {LINES} lines, {jobs} of them jobs, all different | |",
        "|---|---|",
        f"| median of {ROUNDS} | {statistics.median(seconds):.2f} s |",
        f"| worst | {max(seconds):.2f} s |",
        f"| of a processor, median | {statistics.median(busy):.2f} s |",
        "",
    ]


def _fill(directory: Path) -> int:
    """Write the crontabs; gives the number of jobs. Half of the lines are, more than in the crontabs people have."""
    directory.mkdir(parents=True)
    jobs = 0
    for number in range(FILES):
        lines = ["# /etc/cron.d/example: what it is for, and whom to ask", "SHELL=/bin/sh", "MAILTO=root", ""]
        lines.append(f"{number % 60} * * * * root /sbin/slaughter --delay={number}")
        while len(lines) < LINES:
            place = len(lines)
            when = f"{place % 60} {number % 24} * * {place % 7}"
            job = f"/opt/app{number}/job --n={place}"
            lines += (f"# {place}: another", f"{when} root test -x /opt/app{number} && {job} >/dev/null 2>&1")
            if place % 4:
                lines.append(f"{when} backup /usr/local/bin/job-{number} '{place} of many' | logger -t job")
            else:
                lines.append("")
        lines = lines[:LINES]
        jobs += sum(line[:1].isdigit() for line in lines)
        (directory / f"example-{number}").write_text("\n".join(lines) + "\n")
    return jobs


if __name__ == "__main__":
    sys.stdout.write("\n".join(measure()) + "\n")
