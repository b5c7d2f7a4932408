"""An agent that is told to stop stops, whatever happens to its link at that moment; one that is not told dials anew."""

import asyncio
import errno
import random
from collections.abc import Callable, Sequence
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
        self.dials = 0
        self.lost = asyncio.Event()

    async def dial(self, _topics: Sequence[bytes], _within: float) -> Link:
        self.dials += 1
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


def _tell_nobody(_up: bool, _since: float, _why: str) -> None:  # noqa: FBT001 - the agent's signature
    """What an agent tells of its link."""


def _agent(directory: Path, link: FailingLink, tell_link: Callable[[bool, float, str], None] = _tell_nobody) -> Agent:
    return Agent(
        AgentCore(name="web1", verify=lambda _: None, cursor=Cursor()),
        transport=link,
        runner_socket=directory / "runner.sock",
        journal=directory / "journal.db",
        beacon=directory / "beacon",
        save=lambda: None,
        tell_link=tell_link,
        now=clock.now,
        explain=_no_reason,
        jitter=random.Random(1),  # noqa: S311 - nothing secret
    )


def _out_of_descriptors(_up: bool, _since: float, _why: str) -> None:  # noqa: FBT001 - as above
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize("tell_link", [_tell_nobody, _out_of_descriptors])
def test_an_agent_that_loses_its_link_dials_again_and_again(
    tmp_path: Path, tell_link: Callable[[bool, float, str], None]
) -> None:
    """Also one that cannot say so."""

    async def scene() -> None:
        link = FailingLink()
        link.lost.set()
        serving = asyncio.ensure_future(_agent(tmp_path, link, tell_link).serve())
        async with asyncio.timeout(30):
            while link.dials < 3 and not serving.done():  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.05)
        assert not serving.done()
        serving.cancel()
        await asyncio.wait([serving])

    asyncio.run(scene())


@pytest.mark.parametrize("steps", range(4))
def test_an_agent_that_loses_its_link_while_it_is_stopped_stops(tmp_path: Path, steps: int) -> None:
    async def scene() -> None:
        link = FailingLink()
        agent = _agent(tmp_path, link)
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
