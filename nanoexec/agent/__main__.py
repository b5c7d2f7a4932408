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
from pathlib import Path
from typing import Final

import msgspec

from nanoexec import clock, logs, systemd
from nanoexec.agent import link
from nanoexec.agent.core import AgentCore
from nanoexec.agent.identity import Identity, read_identity
from nanoexec.agent.link import LinkState
from nanoexec.agent.service import Agent
from nanoexec.config import Paths, daemon_paths
from nanoexec.errors import NanoexecError
from nanoexec.files import write_atomically
from nanoexec.model import Cursor, Order
from nanoexec.runner.process import this_process

PROBE_WITHIN: Final = 5.0  # seconds
_log = logging.getLogger("nanoexec.agent")


def main() -> int:
    """Serve until SIGTERM. Returns the exit status."""
    logs.to_stderr()
    try:
        paths = daemon_paths(sys.argv[1:])
        asyncio.run(_serve(paths, read_identity(paths)))
    except NanoexecError as error:
        _log.critical("%s", error)
        return error.exit_code
    return 0


async def _serve(paths: Paths, identity: Identity) -> None:
    from nanoexec.transport.nng import NngNodeTransport  # noqa: PLC0415 - what cannot be read is said before NNG starts
    from nanoexec.transport.probe import probe  # noqa: PLC0415 - as above

    config = identity.config
    core = AgentCore(name=identity.name, verify=_verifier(config.signers), cursor=_read_cursor(paths.cursor))

    async def why() -> str:
        stages = await asyncio.to_thread(
            probe, config.hub, config.report_port, identity.credentials, identity.hub_name, PROBE_WITHIN
        )
        return "" if stages[-1].ok else stages[-1].detail

    agent = Agent(
        core,
        transport=NngNodeTransport(
            f"tls+tcp://{_bracketed(config.hub)}:{config.publish_port}",
            f"tls+tcp://{_bracketed(config.hub)}:{config.report_port}",
            identity.credentials,
            identity.hub_name,
        ),
        runner_socket=paths.runner_socket,
        journal=paths.journal,
        beacon=paths.beacon,
        save=lambda: write_atomically(paths.cursor, msgspec.json.encode(core.outbox.cursor), 0o600),
        tell_link=lambda up, since, why: link.write(paths.link, LinkState(up, since, this_process(), why)),
        now=clock.now,
        explain=why,
        jitter=random.Random(),  # noqa: S311 - spreads reconnections; nothing secret hangs on it
    )
    loop = asyncio.get_running_loop()
    serving = asyncio.ensure_future(agent.serve())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    loop.add_signal_handler(signal.SIGHUP, agent.reload)
    watching = asyncio.ensure_future(systemd.keep_watchdog())
    systemd.notify("READY=1")
    _log.info("node %s, hub %s", identity.name, config.hub)
    try:
        await serving
    except asyncio.CancelledError:
        _log.info("stopping; runs under way go on")
    finally:
        systemd.notify("STOPPING=1")
        watching.cancel()
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


def _read_cursor(file: Path) -> Cursor:
    """How far the journal has been relayed. A cursor that cannot be read costs a repetition, nothing else."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Cursor)
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError):
        return Cursor()


if __name__ == "__main__":
    sys.exit(main())
