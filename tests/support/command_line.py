"""The command line as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import nanoexec
from tests.support.somebody import dropping_to

_PACKAGE: Final = Path(nanoexec.__file__).parents[1]
ENVIRONMENT: Final = {**os.environ, "PYTHONPATH": str(_PACKAGE), "COLUMNS": "200"}
_GROUPS: Final = frozenset({"hub", "agent", "nodes", "actions", "cron"})


def command(root: Path, *words: str) -> list[str]:
    """The words of ``nanoexec WORDS --root ROOT``."""
    place = 2 if words[0] in _GROUPS else 1
    # -P, as for the installed script: the present directory is not on the path.
    return [sys.executable, "-P", "-m", "nanoexec", *words[:place], "--root", str(root), *words[place:]]


def nanoexec_command(root: Path, *words: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run it to its end."""
    return subprocess.run(
        command(root, *words), capture_output=True, text=True, timeout=60, check=False, env=ENVIRONMENT, **options
    )


def as_somebody(root: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """``nanoexec WORDS`` as an ordinary user."""
    return subprocess.run(
        [*dropping_to(1, 1), *command(root, *words)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False, env=ENVIRONMENT,
    )  # fmt: skip
