"""``python -m nanoexec.agent [--root DIR] [--config FILE]``: the agent's process, put together.

`nanoexec agent serve` becomes this by exec: the daemon carries nothing of the command line.
"""

import asyncio
import contextlib
import logging
import random
import signal
import sys
from collections.abc import Callable
from typing import Final

from nanoexec import clock, logs, systemd
from nanoexec.agent import link
from nanoexec.agent.core import AgentCore
from nanoexec.agent.identity import Identity, read_cursor, write_cursor
from nanoexec.agent.link import LinkState
from nanoexec.agent.membership import Signature, joined, joined_anew
from nanoexec.agent.service import Agent
from nanoexec.config import Paths, daemon_paths
from nanoexec.errors import NanoexecError
from nanoexec.model import Order
from nanoexec.runner.process import this_process

PROBE_WITHIN: Final = 5.0  # seconds
_log = logging.getLogger("nanoexec.agent")


def main() -> int:
    """Serve until SIGTERM. Returns the exit status."""
    logs.to_stderr()
    try:
        asyncio.run(_live(daemon_paths(sys.argv[1:])))
    except NanoexecError as error:
        _log.critical("%s", error)
        return error.exit_code
    return 0


async def _live(paths: Paths) -> None:
    """Serve until SIGTERM: nobody before this node has joined, and somebody else once it has joined anew."""
    loop = asyncio.get_running_loop()
    working = asyncio.ensure_future(_work(paths))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, working.cancel)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # a reload before joining: the files are looked at anyway
    watching = asyncio.ensure_future(systemd.keep_watchdog())
    try:
        await working
    except asyncio.CancelledError:
        _log.info("stopping; runs under way go on")
    finally:
        systemd.notify("STOPPING=1")
        watching.cancel()


async def _work(paths: Paths) -> None:
    while True:
        identity, seen = await joined(paths)
        await _serve(paths, identity, seen)
        _log.info("this node has joined anew")


async def _serve(paths: Paths, identity: Identity, seen: Signature) -> None:
    """Serve as this identity until there is another; ``seen`` is the signature of its files."""
    from nanoexec.transport.nng import NngNodeTransport  # noqa: PLC0415 - what cannot be read is said before NNG starts
    from nanoexec.transport.probe import probe  # noqa: PLC0415 - as above

    config = identity.config
    core = AgentCore(name=identity.name, verify=_verifier(config.signers), cursor=read_cursor(paths.cursor))

    async def why() -> str:
        stages = await asyncio.to_thread(
            probe, identity.hub, config.report_port, identity.credentials, identity.hub_name, PROBE_WITHIN
        )
        return "" if stages[-1].ok else stages[-1].detail

    agent = Agent(
        core,
        transport=NngNodeTransport(
            f"tls+tcp://{_bracketed(identity.hub)}:{config.publish_port}",
            f"tls+tcp://{_bracketed(identity.hub)}:{config.report_port}",
            identity.credentials,
            identity.hub_name,
        ),
        runner_socket=paths.runner_socket,
        journal=paths.journal,
        beacon=paths.beacon,
        save=lambda: write_cursor(paths.cursor, core.outbox.cursor),
        tell_link=lambda up, since, why: link.write(paths.link, LinkState(up, since, this_process(), why)),
        now=clock.now,
        explain=why,
        jitter=random.Random(),  # noqa: S311 - spreads reconnections; nothing secret hangs on it
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, agent.reload)
    tasks = [asyncio.ensure_future(agent.serve()), asyncio.ensure_future(joined_anew(paths, seen))]
    systemd.notify(f"READY=1\nSTATUS=node {identity.name}, hub {identity.hub}")
    _log.info("node %s, hub %s", identity.name, identity.hub)
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(NanoexecError):
            await agent.stop()


def _verifier(signers: tuple[str, ...]) -> Callable[[Order], None]:
    """Strict mode, when this node has signers; otherwise the transport's word is enough."""
    if not signers:
        return lambda _: None
    from nanoexec.keys import signing  # noqa: PLC0415 - 10 MB that only strict nodes pay

    return lambda order: signing.verify(signers, order.body, order.signature)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


if __name__ == "__main__":
    sys.exit(main())
