"""A hub or an agent for which time runs faster: ``python -m tests.chaos.network_daemon SPEED START hub|agent ...``.

The process is the real one, and so are its sockets. Only its clock is another, and with it the loop that waits by it:
ten minutes of beacons, silences and pauses go by in a fraction of that. START is the wall clock, in seconds, at which
all clocks of a campaign showed the right time.
"""

import asyncio
import logging
import selectors
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from nanoexec import clock, logs
from nanoexec.config import Paths, daemon_paths
from nanoexec.errors import NanoexecError
from nanoexec.model import Instant


class _Selector(selectors.EpollSelector):
    """Sleeps as long as the loop's time says."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self._speed = speed

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout / self._speed if timeout else timeout)


class FastLoop(asyncio.SelectorEventLoop):
    """A loop whose seconds are shorter."""

    def __init__(self, speed: float) -> None:
        super().__init__(_Selector(speed))
        self._speed = speed

    def time(self) -> float:
        return super().time() * self._speed


def wall(speed: float, start: float) -> float:
    """What the fast clocks show now."""
    return start + (time.time() - start) * speed


def _service(name: str, speed: float) -> Callable[[Paths], Coroutine[Any, Any, None]]:
    if name == "hub":
        from nanoexec.hub.__main__ import _serve as serve  # noqa: PLC0415 - an agent does not carry the hub
    else:
        from nanoexec.agent import __main__ as agent  # noqa: PLC0415 - the other way round

        vars(agent)["PROBE_WITHIN"] = agent.PROBE_WITHIN / speed  # a thread of its own, which does not ask the loop
        serve = agent._live
    return serve


def main() -> int:
    """As the daemons' own `main`."""
    speed, start = float(sys.argv[1]), float(sys.argv[2])
    clock.now = lambda: Instant(wall=wall(speed, start), steady=time.clock_gettime(time.CLOCK_BOOTTIME) * speed)
    logs.to_stderr()
    try:
        with asyncio.Runner(loop_factory=lambda: FastLoop(speed)) as runner:
            runner.run(_service(sys.argv[3], speed)(daemon_paths(sys.argv[4:])))
    except NanoexecError as error:
        logging.getLogger("nanoexec").critical("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
