"""Becoming another program of nanoexec: by exec, so that it carries nothing of the command line in memory."""

import os
import sys
from typing import NoReturn

from nanoexec import launch
from nanoexec.config import Paths


def become(module: str, paths: Paths, *words: str) -> NoReturn:
    """Replace this process by ``module``, with the same root and configuration, and ``words`` after them."""
    command = [*launch.command(module), "--root", str(paths.root)]
    if paths.config:
        command += ["--config", str(paths.config)]
    sys.stdout.flush()
    os.execv(sys.executable, [*command, *words])  # noqa: S606 - the same interpreter, no shell, no foreign word
