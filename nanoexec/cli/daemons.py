"""Becoming a daemon: by exec, so that it carries nothing of the command line in memory."""

import os
import sys
from typing import NoReturn

from nanoexec.config import Paths


def become(module: str, paths: Paths) -> NoReturn:
    """Replace this process by ``python -m module``, with the same root and configuration."""
    words = [sys.executable, "-m", module, "--root", str(paths.root)]
    if paths.config:
        words += ["--config", str(paths.config)]
    sys.stdout.flush()
    os.execv(sys.executable, words)  # noqa: S606 - the same interpreter, no shell, no foreign word
