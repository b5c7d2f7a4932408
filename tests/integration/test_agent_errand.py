"""An errand to the runner that fails for want of a descriptor fails as any other does: so it is run again."""

import asyncio
import os
import resource
from contextlib import suppress
from pathlib import Path

import pytest

from nanoexec.agent.errand import ask_once
from nanoexec.errors import UnavailableError
from nanoexec.wire.runner import Describe

pytestmark = pytest.mark.node


def test_an_agent_without_descriptors_cannot_ask_for_now(tmp_path: Path) -> None:
    async def scene() -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        hoard = [os.open("/", os.O_PATH)]
        highest = _highest()
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
            with suppress(OSError):
                while True:
                    hoard.append(os.dup(hoard[0]))
            with pytest.raises(UnavailableError, match=r"^the runner cannot be asked: Too many open files$"):
                await ask_once(tmp_path / "runner.sock", Describe(), 10.0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for descriptor in hoard:
                os.close(descriptor)

    asyncio.run(scene())


def _highest() -> int:
    return max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
