"""What systemd has been told about a daemon's units, on a machine that it runs."""

import subprocess
from pathlib import Path
from typing import Final

from nanoexec import systemd
from nanoexec.config import Paths

WITHIN: Final = 5.0  # seconds
_MACHINE: Final = Path("/")


def masked(paths: Paths, *units: str, booted: bool | None = None) -> str:
    """What to do about the first of ``units`` that is masked; empty if none is, or if nobody can say.

    ``booted`` is whether systemd runs this machine; looked for when None.
    """
    if paths.root != _MACHINE or not (systemd.booted() if booted is None else booted):
        return ""
    unit = next((unit for unit in units if state(unit).startswith("masked")), "")
    return f"{unit} is masked: `systemctl unmask {unit}`, then `systemctl start {units[0]}`" if unit else ""


def state(unit: str) -> str:
    """``enabled``, ``masked``, ``masked-runtime``, ... as systemctl(1) has it; empty when it does not say."""
    try:
        asked = subprocess.run(
            ["systemctl", "is-enabled", unit],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WITHIN,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip()
