"""The node's stages: from its configuration to the hub, then its runner, its manifests and its journal."""

import asyncio
import os
import pwd
import time
from collections.abc import Generator, Iterator
from typing import Final

from nanoexec.agent.identity import host_name, read_config
from nanoexec.catalog import read_catalog
from nanoexec.config import AgentConfig, Paths
from nanoexec.doctor import finding, local
from nanoexec.doctor.finding import NODE, Finding, Level
from nanoexec.doctor.identity import identity
from nanoexec.errors import IdentityError, NanoexecError, StoreError, UnavailableError
from nanoexec.keys.credentials import NODE_CERTIFICATE, NODE_KEY, load_node
from nanoexec.model import Credentials, identifier
from nanoexec.runner.order import offers
from nanoexec.wire import network, runner

WITHIN: Final = 5.0  # seconds for each look at the hub
_ROAD: Final = ("dns", "tcp", "tls", "welcome", "hello", "clock")


def examine(paths: Paths) -> Iterator[Finding]:
    """Every stage of a node. Raises nothing."""
    config: AgentConfig | None = None
    try:
        config = read_config(paths)
        yield NODE.ok("config", f"{paths.agent_config}: the hub is {config.hub}")
    except NanoexecError as error:
        yield NODE.fail("config", str(error))
    name = config.name or host_name() if config else None
    key, certificate, credentials = identity(
        NODE,
        paths.agent_state / NODE_KEY,
        paths.agent_state / NODE_CERTIFICATE,
        name,
        time.time(),
        load=lambda: load_node(paths.agent_state),
    )
    yield (_owner(paths, config) or key) if key.level is Level.OK else key
    if config is None or credentials is None:
        yield certificate
        yield from NODE.skip("a configuration, a key and a certificate", *_ROAD)
    else:
        yield from _hub(config, credentials, certificate)
    described = yield from _runner(paths, config)
    yield _manifest(paths, config, described)
    yield _journal(paths)


def _owner(paths: Paths, config: AgentConfig | None) -> Finding | None:
    """Root can read every key; the agent only its own. Where its account exists, the key must be that account's."""
    file = paths.agent_state / NODE_KEY
    try:
        account = pwd.getpwnam(config.user) if config else None
    except KeyError:
        return None
    if account is None or os.geteuid() != 0 or file.stat().st_uid == account.pw_uid:
        return None
    return NODE.warn(
        "key", f"{file}: belongs to another user than {account.pw_name}: chown it, if the agent is to read it"
    )


def _hub(config: AgentConfig, credentials: Credentials, certificate: Finding) -> Iterator[Finding]:
    """The road to the hub. What the probe says of the certificate counts where nothing was wrong with it before."""
    from nanoexec.transport.probe import probe  # noqa: PLC0415 - ssl, which only this stage needs

    stages = probe(config.hub, config.report_port, credentials, config.hub_name or config.hub.lower(), WITHIN)
    first, road = stages[0], stages[1:]
    yield certificate if first.ok or certificate.level is Level.FAIL else NODE.fail("certificate", first.detail)
    for stage in road:
        yield NODE.ok(stage.name, stage.detail) if stage.ok else NODE.fail(stage.name, stage.detail)
    if all(stage.ok for stage in stages):
        yield from _hello(config, credentials)
    else:
        yield from NODE.skip(f"the stage {stages[-1].name}", *_ROAD[len(road) :])


def _hello(config: AgentConfig, credentials: Credentials) -> Iterator[Finding]:
    """Join the conversation on both ports, as the agent does, and hear the hub's time."""
    try:
        offset = asyncio.run(_conversation(config, credentials))
    except NanoexecError as error:
        ports = f"port {config.publish_port} must be open as {config.report_port} is"
        yield NODE.fail("hello", f"{error}; {ports}" if isinstance(error, UnavailableError) else str(error))
        yield from NODE.skip("the stage hello", "clock")
    else:
        yield NODE.ok("hello", f"the hub answers; ports {config.publish_port} and {config.report_port} are open")
        yield finding.clock(offset)


async def _conversation(config: AgentConfig, credentials: Credentials) -> float:
    """How far the clock is from the hub's: ours minus theirs, in seconds. Raises `NanoexecError`.

    What is asked is a report of no runs: the hub answers it like any other and nothing comes of it. A hello would be
    answered with the triggers that wait for this node, and the hub would note them as sent.
    """
    from nanoexec.transport.nng import NngNodeTransport  # noqa: PLC0415 - 20 MB that only this stage needs

    host = f"[{config.hub}]" if ":" in config.hub else config.hub
    transport = NngNodeTransport(
        f"tls+tcp://{host}:{config.publish_port}",
        f"tls+tcp://{host}:{config.report_port}",
        credentials,
        config.hub_name or config.hub.lower(),
    )
    link = await transport.dial([network.TOPIC_HUB], WITHIN)
    try:
        before = time.time()
        answer = network.decode_answer(await link.request(network.encode(network.Report(runs=())), WITHIN))
        if isinstance(answer, network.Denied):
            raise IdentityError(f"the hub will not hear this node: {answer.reason}")
        return (before + time.time()) / 2 - answer.time
    finally:
        await link.close()


def _runner(paths: Paths, config: AgentConfig | None) -> Generator[Finding, None, runner.Described | None]:
    """Returns what the runner says of its actions, None without an answer."""
    user = config.user if config else "the agent's user"
    try:
        reply = runner.decode_reply(local.ask(paths.runner_socket, runner.Describe()))
    except local.NotThereError as error:
        yield NODE.fail(
            "runner", f"{error}: no runner runs; `systemctl start nanoexec-runner.socket`, or python -m nanoexec.runner"
        )
    except (local.NotAllowedError, local.HungUpError) as error:
        yield NODE.fail("runner", f"{error}: it listens to root and to {user}: run this as one of them")
    except NanoexecError as error:
        yield NODE.fail("runner", str(error))
    else:
        if isinstance(reply, runner.Described):
            yield NODE.ok("runner", f"{paths.runner_socket}: it answers")
            return reply
        why = reply.reason if isinstance(reply, runner.Rejected) else f"it answers with {type(reply).__name__}"
        yield NODE.fail("runner", f"{paths.runner_socket}: {why}")
    return None


def _manifest(paths: Paths, config: AgentConfig | None, described: runner.Described | None) -> Finding:
    """As the runner has it, or as the runner would have it if it ran."""
    if described is None:
        catalog = read_catalog(paths)
        faults = tuple(str(fault) for fault in catalog.faults)
        described = runner.Described(actions=offers(catalog, config or AgentConfig(hub="localhost"), {}), faults=faults)
    return finding.manifests([action.name for action in described.actions], described.faults)


def _journal(paths: Paths) -> Finding:
    from nanoexec.runner.journal import Journal  # noqa: PLC0415 - sqlite3, which only this stage needs

    file = paths.journal
    try:
        owner = file.stat().st_uid
    except FileNotFoundError:
        return NODE.ok("journal", f"{file}: not there yet; the runner makes it")
    except OSError as error:
        return NODE.fail("journal", f"{file}: cannot be seen: {error.strerror}: run this as root")
    if os.geteuid() not in (0, owner):
        return NODE.ok("journal", f"{file}: there; only its owner can look inside")
    try:
        with Journal.open(file, identifier(os.urandom(10))) as journal:
            open_runs = len(journal.open_runs())
    except StoreError as error:
        return NODE.fail("journal", str(error))
    return NODE.ok("journal", f"{file}: can be read; {open_runs} runs have not ended")
