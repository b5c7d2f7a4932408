"""Becoming another program of nanoexec: by exec, so that it carries nothing of the command line in memory."""

import os
import sys
from importlib.util import find_spec
from typing import Final, NoReturn

from nanoexec import launch
from nanoexec.config import Paths
from nanoexec.errors import UnavailableError

_OF_THE_HUB: Final = ("sqlalchemy", "alembic")


def demand_hub() -> None:
    """Raise `UnavailableError` where only what a node needs is installed."""
    missing = [name for name in _OF_THE_HUB if find_spec(name) is None]
    if missing:
        raise UnavailableError(
            f"the hub's part of nanoexec is not installed here ({' and '.join(missing)} missing): "
            "apt install nanoexec-hub, or from a checkout pip install '.[hub]'"
        )


def become(module: str, paths: Paths, *words: str) -> NoReturn:
    """Replace this process by ``module``, with the same root and configuration, and ``words`` after them."""
    command = [*launch.command(module), "--root", str(paths.root)]
    if paths.config:
        command += ["--config", str(paths.config)]
    sys.stdout.flush()
    os.execv(sys.executable, [*command, *words])  # noqa: S606 - the same interpreter, no shell, no foreign word
