"""What a crontab slot costs that is skipped, against the least that Python can do: ``python3 -c pass``.

Both are run in turn and compared round by round: other work on the machine then slows down both. The skip has the shell
in it that cron starts for a line, and the commit to the journal.
"""

import os
import pwd
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nanoexec.crontab.prefix import Prefix

ROUNDS = 200
LIMIT = 3.0  # times a bare interpreter
_WARM_UP = 5


def measure(rounds: int = ROUNDS) -> list[str]:
    """The section of the page."""
    with tempfile.TemporaryDirectory() as directory:
        skip = _skipping(Path(directory))
        bare = [sys.executable, "-c", "pass"]
        pairs = [(_seconds(bare), _seconds(skip)) for _ in range(_WARM_UP + rounds)][_WARM_UP:]
    bares, skips = (sorted(column) for column in zip(*pairs, strict=True))
    ratios = sorted(after / before for before, after in pairs)
    return [
        "## A crontab slot that is skipped",
        "",
        f"{rounds} rounds: `python3 -c pass`, then a slot of an adopted line that is skipped and journaled, with the",
        "`/bin/sh -c` that cron starts for it.",
        "",
        "| | p50 | p95 |",
        "|---|---|---|",
        f"| `python3 -c pass` | {_at(bares, 50) * 1e3:.1f} ms | {_at(bares, 95) * 1e3:.1f} ms |",
        f"| a skipped slot | {_at(skips, 50) * 1e3:.1f} ms | {_at(skips, 95) * 1e3:.1f} ms |",
        f"| ratio, round by round (needed: {LIMIT:g}) | {_at(ratios, 50):.2f} | {_at(ratios, 95):.2f} |",
        "",
    ]


def _skipping(root: Path) -> list[str]:
    """What cron starts for a line whose interval is satisfied, on a scratch node. It fails if it should ever run."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    launcher = root / "nanoexec-run"
    source = Path(__file__).parents[1]
    launcher.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(source)!r})\nfrom nanoexec.run import main\nmain()\n"
    )
    launcher.chmod(0o755)
    actions, cron = root / "etc/nanoexec/actions.d", root / "etc/cron.d"
    actions.mkdir(parents=True)
    cron.mkdir()
    (actions / "probe.toml").write_text(f'name = "probe"\ncommand = ["/bin/true"]\nuser = "{user}"\n')
    command = f"{bytes(Prefix('probe', str(launcher), str(root))).decode()}exit 99"
    crontab = cron / "probe"
    crontab.write_text(f"{time.localtime().tm_min} * * * * {user} {command}\n")
    crontab.chmod(0o644)
    subprocess.run([str(launcher), "--root", str(root), "probe"], check=True)
    return ["/bin/sh", "-c", command]


def _seconds(words: list[str]) -> float:
    """How long a command takes, in an environment as small as cron's: byte code is written, and found the next time."""
    began = time.perf_counter()
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, env={"PATH": "/usr/bin:/bin"})
    return time.perf_counter() - began


def _at(values: list[float], percent: int) -> float:
    """A percentile of sorted values."""
    return values[min(len(values) - 1, len(values) * percent // 100)]
