"""An agent that is told to stop stops, whatever happens to its link at that moment."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from nanoexec import clock
from nanoexec.agent.core import AgentCore
from nanoexec.agent.service import Agent
from nanoexec.model import Cursor
from nanoexec.transport import Link, LinkLostError

pytestmark = pytest.mark.node


class FailingLink:
    """Connected, silent, and lost when it is told so. It is its own transport."""

    def __init__(self) -> None:
        self.dialled = asyncio.Event()
        self.lost = asyncio.Event()

    async def dial(self, _topics: Sequence[bytes], _within: float) -> Link:
        self.dialled.set()
        return self

    async def receive(self) -> bytes:
        await self.lost.wait()
        raise LinkLostError("the connection was lost")

    async def request(self, _frame: bytes, _within: float) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    async def close(self) -> None:
        """Nothing is open."""


async def _no_reason() -> str:
    return ""


@pytest.mark.parametrize("steps", range(4))
def test_an_agent_that_loses_its_link_while_it_is_stopped_stops(tmp_path: Path, steps: int) -> None:
    async def scene() -> None:
        link = FailingLink()
        agent = Agent(
            AgentCore(name="web1", verify=lambda _: None, cursor=Cursor()),
            transport=link,
            runner_socket=tmp_path / "runner.sock",
            journal=tmp_path / "journal.db",
            beacon=tmp_path / "beacon",
            save=lambda: None,
            tell_link=lambda _up, _since, _why: None,
            now=clock.now,
            explain=_no_reason,
            jitter=random.Random(1),  # noqa: S311 - nothing secret
        )
        serving = asyncio.ensure_future(agent.serve())
        await link.dialled.wait()
        await asyncio.sleep(0)  # its tasks begin
        link.lost.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        serving.cancel()
        await asyncio.wait([serving], timeout=20)
        stopped = serving.cancelled()
        serving.cancel()
        await asyncio.wait([serving])
        await agent.stop()
        assert stopped, "it has dialled anew instead"

    asyncio.run(scene())
