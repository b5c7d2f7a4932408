"""The node's stages: from its configuration to the hub, then its runner, its manifests and its journal."""

import asyncio
import os
import pwd
import time
from collections.abc import Generator, Iterator
from typing import Final

from nanoexec.agent.identity import host_name
from nanoexec.agent.link import heard as last_heard
from nanoexec.agent.link import read as read_link
from nanoexec.agent.link import runs as is_running
from nanoexec.catalog import read_catalog
from nanoexec.config import AgentConfig, Paths
from nanoexec.doctor import finding, local, unit
from nanoexec.doctor.finding import NODE, Finding, Level
from nanoexec.doctor.identity import identity
from nanoexec.errors import IdentityError, NanoexecError, StoreError, UnavailableError
from nanoexec.keys.credentials import NODE_CERTIFICATE, NODE_KEY, load_node
from nanoexec.model import Credentials, Value
from nanoexec.runner.journal import Journal
from nanoexec.runner.order import offers
from nanoexec.runner.process import Process, this_process
from nanoexec.settings import read_agent, read_own
from nanoexec.transport.probe import probe
from nanoexec.wire import network, runner

WITHIN: Final = 5.0  # seconds for each look at the hub
_UNITS: Final = ("nanoexec-runner.socket", "nanoexec-runner.service")
_JOIN: Final = "`nanoexec agent join HUB:PORT TOKEN`"
_ROAD: Final = ("dns", "tcp", "tls", "welcome", "hello", "clock")


def examine(paths: Paths) -> Iterator[Finding]:
    """Every stage of a node. Raises nothing."""
    config: AgentConfig | None = None
    try:
        config = read_agent(paths)
    except NanoexecError as error:
        yield NODE.fail("config", str(error))
    if config and config.hub is None:
        yield NODE.fail("config", f"not joined: neither {paths.joined} nor agent.toml says where the hub is: {_JOIN}")
        yield from NODE.skip("a node that has joined", "key", "certificate", *_ROAD, "agent", "link")
    elif config and config.hub:
        source = paths.agent_config if read_own(paths).hub else paths.joined
        yield NODE.ok("config", f"{source}: the hub is {config.hub}")
    if config is None or config.hub:
        yield from _membership(paths, config)
        yield from _agent(paths, config or AgentConfig())
    described = yield from _runner(paths, config)
    yield _manifest(paths, config, described)
    yield _journal(paths)


def _membership(paths: Paths, config: AgentConfig | None) -> Iterator[Finding]:
    """What joining has left here, and the road to the hub that it opens."""
    key, certificate, credentials = identity(
        NODE,
        paths.agent_state / NODE_KEY,
        paths.agent_state / NODE_CERTIFICATE,
        (config.name or host_name()) if config else None,
        time.time(),
        load=lambda: load_node(paths.agent_state),
    )
    yield (_owner(paths, config) or key) if key.level is Level.OK else key
    if config is None or config.hub is None or credentials is None:
        yield certificate
        yield from NODE.skip("a configuration, a key and a certificate", *_ROAD)
    else:
        yield from _Road(config, config.hub, credentials).walk(certificate)


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


class _Road(Value, frozen=True):
    """The road from this node to its hub."""

    config: AgentConfig
    hub: str
    credentials: Credentials

    @property
    def hub_name(self) -> str:
        return self.config.hub_name or self.hub.lower()

    def walk(self, certificate: Finding) -> Iterator[Finding]:
        """Its stages. What the probe says of the certificate counts where nothing was wrong with it before."""
        stages = probe(self.hub, self.config.report_port, self.credentials, self.hub_name, WITHIN)
        first, road = stages[0], stages[1:]
        yield certificate if first.ok or certificate.level is Level.FAIL else NODE.fail("certificate", first.detail)
        for stage in road:
            yield NODE.ok(stage.name, stage.detail) if stage.ok else NODE.fail(stage.name, stage.detail)
        if all(stage.ok for stage in stages):
            yield from self._hello()
        else:
            yield from NODE.skip(f"the stage {stages[-1].name}", *_ROAD[len(road) :])

    def _hello(self) -> Iterator[Finding]:
        """Join the conversation on both ports, as the agent does, and hear the hub's time."""
        publish, report = self.config.publish_port, self.config.report_port
        try:
            offset = asyncio.run(self._conversation())
        except NanoexecError as error:
            ports = f"port {publish} must be open as {report} is"
            yield NODE.fail("hello", f"{error}; {ports}" if isinstance(error, UnavailableError) else str(error))
            yield from NODE.skip("the stage hello", "clock")
        else:
            yield NODE.ok("hello", f"the hub answers; ports {publish} and {report} are open")
            yield finding.clock(offset)

    async def _conversation(self) -> float:
        """How far the clock is from the hub's: ours minus theirs, in seconds. Raises `NanoexecError`.

        What is asked is a report of no runs: the hub answers it like any other and nothing comes of it. A hello would
        be answered with the triggers that wait for this node, and the hub would note them as sent.
        """
        from nanoexec.transport.nng import NngNodeTransport  # 20 MB

        host = f"[{self.hub}]" if ":" in self.hub else self.hub
        transport = NngNodeTransport(
            f"tls+tcp://{host}:{self.config.publish_port}",
            f"tls+tcp://{host}:{self.config.report_port}",
            self.credentials,
            self.hub_name,
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


def _agent(paths: Paths, config: AgentConfig) -> Iterator[Finding]:
    """Whether the agent runs and hears the hub, by what it leaves. It writes of itself before it knows of any link."""
    try:
        state, heard = read_link(paths.link), last_heard(paths.beacon)
        runs = state is not None and is_running(state.agent)
    except NanoexecError:
        yield from (NODE.hidden("agent", paths.link), NODE.hidden("link", paths.link))
        return
    except OSError as error:  # a /proc that shows others nothing, or no descriptor left
        yield from NODE.skip(f"a look at the agent's process ({error.strerror})", "agent", "link")
        return
    if state is None or not runs:
        advice = unit.masked(paths, "nanoexec-agent.service")
        advice = advice or "`systemctl start nanoexec-agent`, or `nanoexec agent serve`"
        yield NODE.fail("agent", f"no agent runs, so no trigger is heard here: {advice}")
        yield from NODE.skip("the stage agent", "link")
        return
    yield NODE.ok("agent", f"it runs, as process {state.agent.pid}")
    age = _age(state.agent)
    yield finding.link(state, heard, age=age, silent_after=config.hub_silent_after, now=time.time())


def _age(agent: Process) -> float:
    """For how long it had run when this process began, in seconds: by the kernel's count, whatever clocks were set."""
    return (this_process().ticks - agent.ticks) / os.sysconf("SC_CLK_TCK")


def _runner(paths: Paths, config: AgentConfig | None) -> Generator[Finding, None, runner.Described | None]:
    """Returns what the runner says of its actions, None without an answer."""
    user = config.user if config else "the agent's user"
    try:
        reply = runner.decode_reply(local.ask(paths.runner_socket, runner.Describe()))
    except local.NotAllowedError:
        yield NODE.hidden("runner", paths.runner_socket)
    except local.NotThereError as error:
        advice = unit.masked(paths, *_UNITS) or "`systemctl start nanoexec-runner.socket`, or python -m nanoexec.runner"
        yield NODE.fail("runner", f"{error}: no runner runs; {advice}")
    except local.HungUpError as error:
        if not _may_ask(user):
            yield NODE.hidden("runner", paths.runner_socket)
        else:
            advice = unit.masked(paths, *_UNITS) or f"it listens to root and to {user}"
            yield NODE.fail("runner", f"{error}: {advice}")
    except NanoexecError as error:
        yield NODE.fail("runner", str(error))
    else:
        if isinstance(reply, runner.Described):
            yield NODE.ok("runner", f"{paths.runner_socket}: it answers")
            return reply
        why = reply.reason if isinstance(reply, runner.Rejected) else f"it answers with {type(reply).__name__}"
        yield NODE.fail("runner", f"{paths.runner_socket}: {why}")
    return None


def _may_ask(user: str) -> bool:
    try:
        return os.geteuid() in (0, pwd.getpwnam(user).pw_uid)
    except KeyError:
        return False


def _manifest(paths: Paths, config: AgentConfig | None, described: runner.Described | None) -> Finding:
    """As the runner has it, or as the runner would have it if it ran."""
    if described is None:
        catalog = read_catalog(paths)
        faults = tuple(str(fault) for fault in catalog.faults)
        described = runner.Described(actions=offers(catalog, config or AgentConfig(), {}), faults=faults)
    return finding.manifests([action.name for action in described.actions], described.faults)


def _journal(paths: Paths) -> Finding:
    file = paths.journal
    try:
        owner = file.stat().st_uid
    except FileNotFoundError:
        return NODE.ok("journal", f"{file}: not there yet; the runner makes it")
    except PermissionError:
        return NODE.hidden("journal", file)
    except OSError as error:
        return NODE.fail("journal", f"{file}: cannot be seen: {error.strerror}")
    if os.geteuid() not in (0, owner):
        return NODE.ok("journal", f"{file}: there; only its owner can look inside")
    try:
        with Journal.open(file) as journal:
            open_runs = len(journal.open_runs())
    except StoreError as error:
        return NODE.fail("journal", str(error))
    return NODE.ok("journal", f"{file}: can be read; {open_runs} runs have not ended")
