"""Becoming another program of nanoexec: by exec, so that it carries nothing of the command line in memory."""

import os
import sys
from typing import NoReturn

from nanoexec.config import Paths


def become(module: str, paths: Paths, *words: str) -> NoReturn:
    """Replace this process by ``python -m module``, with the same root and configuration, and ``words`` after them.

    With ``-P``: the directory in which somebody typed the command must not be able to supply a module to root.
    """
    command = [sys.executable, "-P", "-m", module, "--root", str(paths.root)]
    if paths.config:
        command += ["--config", str(paths.config)]
    sys.stdout.flush()
    os.execv(sys.executable, [*command, *words])  # noqa: S606 - the same interpreter, no shell, no foreign word
