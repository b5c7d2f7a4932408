"""``nanoexec doctor`` on a node: each fault is named at its own stage, and what needs that stage is skipped."""

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from nanoexec.agent import link
from nanoexec.agent.link import LinkState
from nanoexec.agent.service import LAST_BACKOFF
from nanoexec.catalog import shipped_directory
from nanoexec.config import Joined, Paths, format_joined
from nanoexec.doctor import Finding, Level, examine, local, unit
from nanoexec.doctor.finding import DIALS_WITHIN
from nanoexec.errors import ConfigError, ExitCode, UnavailableError
from nanoexec.keys.credentials import NODE_CERTIFICATE, NODE_KEY, write_node
from nanoexec.model import Credentials
from nanoexec.runner.process import Process, boot_id, stat_of, this_process
from nanoexec.transport import Peer
from nanoexec.transport.nng import NngExchange, NngHubTransport
from nanoexec.wire import network
from nanoexec.wire.runner import Describe
from tests.support.command_line import as_somebody, nanoexec_command
from tests.support.fleet import Service, free_ports, wait_until
from tests.support.pki import DAY, Authority
from tests.support.somebody import acting_as_nobody

pytestmark = pytest.mark.node

HUB = "hub.example.org"
KEY = "0123456789abcdef"
ANYWHERE = "tls+tcp://127.0.0.1:0"
ROAD = ("dns", "tcp", "tls", "welcome", "hello", "clock")
LINK = ("agent", "link")
ME = pwd.getpwuid(os.geteuid()).pw_name


class Hub:
    """The network side of a hub in a thread: lets nodes in or not, and tells the time, ``ahead`` seconds wrong."""

    def __init__(self, credentials: Credentials) -> None:
        self.ahead = 0.0
        self.welcome = True
        self.deny = ""
        self.asked: list[network.Question] = []
        self.ports = (0, 0)
        self._credentials = credentials
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._exchange: NngExchange = asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(20)
        self.ports = (self._exchange.publish_port, self._exchange.report_port)

    async def _serve(self) -> NngExchange:
        transport = NngHubTransport(ANYWHERE, ANYWHERE, self._credentials)
        return await transport.serve(accept=lambda _: self.welcome, respond=self._respond, notice=lambda *_: None)

    async def _respond(self, _peer: Peer, frame: bytes) -> bytes:
        self.asked.append(network.decode_question(frame))
        now = time.time() + self.ahead
        return network.encode(network.Denied(reason=self.deny, time=now) if self.deny else network.Received(time=now))

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._exchange.close(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def hub(authority: Authority) -> Iterator[Hub]:
    served = Hub(authority.issue("hub", HUB))
    yield served
    served.close()


@pytest.fixture
def paths() -> Iterator[Paths]:
    root = Path(tempfile.mkdtemp(prefix="nx"))  # short: a socket's path has at most 107 bytes
    yield Paths(root=root)
    shutil.rmtree(root)


def configure(paths: Paths, hub: Hub, /, **keys: object) -> None:
    """Write agent.toml; ``keys`` replace or add."""
    known = {"hub": "127.0.0.1", "hub_name": HUB, "name": "web1", "user": ME}
    known |= {"publish_port": hub.ports[0], "report_port": hub.ports[1], **keys}
    paths.etc.mkdir(parents=True, exist_ok=True)
    paths.agent_config.write_text("".join(f"{key} = {value!r}\n" for key, value in known.items()))


def join(paths: Paths, credentials: Credentials) -> None:
    write_node(paths.agent_state, credentials)


@pytest.fixture
def node(paths: Paths, hub: Hub, authority: Authority) -> Paths:
    """A node that is in order, but for its runner. Its agent is this process."""
    configure(paths, hub)
    join(paths, authority.issue(KEY, "web1", valid_for=300 * DAY))
    # In a container its sandbox may show the agent the boot id of the machine outside.
    agent = msgspec.structs.replace(this_process(), boot="74b76708-90ad-4dd4-93c3-75df876380de")
    link.write(paths.link, LinkState(up=True, since=time.time(), agent=agent))
    paths.beacon.touch()
    return paths


def stages(paths: Paths) -> dict[str, Finding]:
    found = list(examine(paths))
    assert [finding.stage for finding in found] == [
        "config",
        "key",
        "certificate",
        *ROAD,
        *LINK,
        "runner",
        "manifest",
        "journal",
    ]
    return {finding.stage: finding for finding in found}


def failed(paths: Paths) -> dict[str, str]:
    """Stages that failed, other than the runner, with what is said."""
    return {
        stage: finding.detail
        for stage, finding in stages(paths).items()
        if finding.level is Level.FAIL and stage != "runner"
    }


def skipped(paths: Paths) -> list[str]:
    return [stage for stage, finding in stages(paths).items() if finding.level is Level.SKIP]


@contextlib.contextmanager
def running_runner(paths: Paths) -> Iterator[None]:
    runner = Service(["nanoexec.runner", "--root", str(paths.root)], paths.root / "runner.log")
    runner.start()
    try:
        wait_until(paths.runner_socket.exists, "the runner listens")
        wait_until(paths.journal.exists, "the runner has made its journal")
        yield
    finally:
        runner.stop()


def test_a_machine_that_is_neither_hub_nor_node_is_told_how_to_become_one(paths: Paths) -> None:
    with pytest.raises(ConfigError, match=r"neither hub\.toml nor agent\.toml nor joined"):
        list(examine(paths))
    done = nanoexec_command(paths.root, "doctor")
    assert (done.returncode, done.stdout) == (ExitCode.UNABLE, "")


def test_a_node_in_order_passes_every_stage(node: Paths) -> None:
    with running_runner(node):
        levels = {stage: finding.level for stage, finding in stages(node).items()}
        assert set(levels.values()) == {Level.OK}
        done = nanoexec_command(node.root, "doctor")
    assert done.returncode == 0
    assert [line.split()[:3] for line in done.stdout.splitlines()] == [["ok", "node", stage] for stage in levels]
    assert done.stderr == "14 stages: 14 ok\n"


def test_one_failed_stage_makes_the_exit_status_1_and_the_others_are_still_looked_at(node: Paths) -> None:
    done = nanoexec_command(node.root, "doctor")
    assert done.returncode == ExitCode.UNABLE
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert line.split()[:3] == ["FAIL", "node", "runner"]
    assert "systemctl start nanoexec-runner.socket" in line


def test_an_agent_that_does_not_run_is_named_with_what_starts_it(node: Paths) -> None:
    gone = msgspec.structs.replace(this_process(), ticks=0)
    link.write(node.link, LinkState(up=True, since=time.time(), agent=gone))
    assert "`systemctl start nanoexec-agent`, or `nanoexec agent serve`" in failed(node)["agent"]
    node.link.unlink()
    assert list(failed(node)) == ["agent"]
    assert skipped(node) == ["link"]


@contextlib.contextmanager
def agent_since(seconds: float) -> Iterator[Process]:
    """A process that has run for so long, to be taken for an agent."""
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        try:
            began = stat_of(sleeping.pid)
            assert began
            ticks = os.sysconf("SC_CLK_TCK")
            wait_until(lambda: ticks_now() - began.ticks >= seconds * ticks, "it has run for so long")
            yield Process(boot=boot_id(), pid=sleeping.pid, ticks=began.ticks)
        finally:
            sleeping.kill()


def ticks_now() -> int:
    """The start of a process that starts now."""
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        began = stat_of(sleeping.pid)
        sleeping.kill()
    assert began
    return began.ticks


def doctors_link(node: Paths) -> dict[str, str]:
    """What `nanoexec doctor` says of the link, as a process of its own: it tells the agent's age by its own."""
    done = nanoexec_command(node.root, "doctor", "-o", "json")
    (found,) = [finding for finding in json.loads(done.stdout) if finding["stage"] == "link"]
    return dict(found)


def test_a_hub_whose_publisher_is_mute_fails_at_the_link_and_not_before_it_is_silent(node: Paths, hub: Hub) -> None:
    configure(node, hub, hub_silent_after=1)
    why = "the hub is silent: no beacon for two and a half intervals"
    with agent_since(2.0) as agent:
        for up, said in ((True, ""), (False, why)):
            link.write(node.link, LinkState(up=up, since=time.time(), agent=agent, why=said))
            for beacon in (True, False):
                node.beacon.touch()
                os.utime(node.beacon, (0, time.time() - 10)) if beacon else node.beacon.unlink()
                found = doctors_link(node)
                assert (found["level"], said in found["detail"]) == ("FAIL", True)
                assert "longer than hub_silent_after (1s), so hub-silent fallbacks run" in found["detail"]
        configure(node, hub)
        found = doctors_link(node)
        assert (found["level"], why in found["detail"]) == ("warn", True)


def test_a_link_that_is_down_is_said_with_its_reason(node: Paths) -> None:
    link.write(node.link, LinkState(up=False, since=time.time() - 90, agent=this_process(), why="it hung up"))
    found = stages(node)["link"]
    assert found.level is Level.WARN, "by its own count the agent has only just started"
    assert "it hung up; the agent dials again within a minute" in found.detail
    assert DIALS_WITHIN == LAST_BACKOFF


def test_a_node_whose_own_file_is_empty_or_missing_goes_by_what_joining_has_written(node: Paths, hub: Hub) -> None:
    decided = Joined(hub="127.0.0.1", hub_name=HUB, publish_port=hub.ports[0], report_port=hub.ports[1], name="web1")
    node.joined.write_bytes(format_joined(decided))
    node.agent_config.write_text(f"user = {ME!r}\n")
    assert failed(node) == {}
    node.agent_config.unlink()
    assert failed(node) == {}
    assert stages(node)["config"].detail == f"{node.joined}: the hub is 127.0.0.1"


def test_a_node_that_has_not_joined_fails_once_and_is_told_how_to_join(paths: Paths) -> None:
    paths.etc.mkdir(parents=True)
    paths.agent_config.write_text("")
    assert list(failed(paths)) == ["config"]
    assert "not joined" in failed(paths)["config"]
    assert "`nanoexec agent join HUB:PORT TOKEN`" in failed(paths)["config"]
    assert skipped(paths) == ["key", "certificate", *ROAD, *LINK]


def test_a_node_that_knows_its_hub_and_has_not_joined_fails_at_the_key(paths: Paths, hub: Hub) -> None:
    configure(paths, hub)
    assert "`nanoexec agent join` makes it" in failed(paths)["key"]
    assert skipped(paths) == [*ROAD, "link"]


@pytest.mark.parametrize("stage", ["key", "certificate"])
def test_what_is_no_file_fails_its_stage_and_keeps_nobody_waiting(node: Paths, stage: str) -> None:
    """The agent's account may put anything there, and root asks."""
    file = node.agent_state / {"key": NODE_KEY, "certificate": NODE_CERTIFICATE}[stage]
    file.unlink()
    os.mkfifo(file)
    assert f"{file}: cannot" in failed(node)[stage]
    assert "not a regular file" in failed(node)[stage]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_who_may_not_look_is_told_so_and_the_node_is_not_blamed(
    node: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.root.chmod(0o755)
    shipped = shutil.copytree(shipped_directory(), node.root / "shipped")  # nobody may not be able to read the checkout
    monkeypatch.setattr("nanoexec.catalog.shipped_directory", lambda: shipped)
    with running_runner(node):
        node.agent_state.chmod(0o700)
        stages(node)  # as root, for what is imported on the way
        with acting_as_nobody():
            found = stages(node)
    assert Level.FAIL not in {finding.level for finding in found.values()}
    for stage in ("key", "certificate", *LINK, "runner"):
        assert found[stage].level is Level.SKIP
        assert "this user may not look at it: run this as root" in found[stage].detail
    assert found["journal"].level is Level.OK


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_who_may_look_at_nothing_gets_no_green_light(node: Paths) -> None:
    node.root.chmod(0o755)
    node.agent_state.chmod(0o700)
    with running_runner(node):
        assert nanoexec_command(node.root, "doctor").returncode == 0
        done = as_somebody(node.root, "doctor")
    assert (done.returncode, "FAIL" in done.stdout) == (ExitCode.UNABLE, False), done.stdout
    assert done.stderr.splitlines()[-1] == "this user cannot see what matters of the node: run this as root"


def systemctl(directory: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = directory / "systemctl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


@pytest.mark.parametrize("word", ["masked", "masked-runtime"])
def test_a_masked_unit_is_named_with_what_unmasks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    """`systemctl is-enabled` prints so, and exits with 1: systemctl(1)."""
    systemctl(tmp_path, f'[ "$2" = a.service ] && echo {word} && exit 1; echo enabled', monkeypatch)
    said = unit.masked(Paths(), "a.socket", "a.service", booted=True)
    assert said == "a.service is masked: `systemctl unmask a.service`, then `systemctl start a.socket`"
    assert unit.masked(Paths(), "a.socket", booted=True) == ""


def test_systemd_is_asked_only_about_the_machine_that_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl(tmp_path, f"echo masked; touch {tmp_path}/asked", monkeypatch)
    assert unit.masked(Paths(), "a.socket", booted=False) == ""
    assert unit.masked(Paths(root=tmp_path), "a.socket", booted=True) == ""
    assert not (tmp_path / "asked").exists()
    assert unit.masked(Paths(), "a.socket", booted=True) != ""


def test_without_systemctl_nothing_is_known_of_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert unit.masked(Paths(), "a.socket", booted=True) == ""


def test_a_fault_in_the_configuration_is_named_with_its_key(node: Paths, hub: Hub) -> None:
    configure(node, hub, colour="red")
    assert "agent.toml: unknown key colour" in failed(node)["config"]
    assert skipped(node) == list(ROAD)


def test_a_key_that_others_can_read_is_named_at_its_stage(node: Paths) -> None:
    (node.agent_state / NODE_KEY).chmod(0o644)
    assert "readable by others" in failed(node)["key"]
    assert skipped(node) == list(ROAD)


def test_a_key_that_is_not_the_certificates_is_named_at_its_stage(node: Paths, authority: Authority) -> None:
    (node.agent_state / NODE_KEY).write_text(authority.issue(KEY, "web1").key)
    assert set(found := failed(node)) == {"key"}
    assert "key values mismatch" in found["key"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read a key that is not its own")
def test_root_is_told_of_a_key_that_the_agents_account_cannot_read(node: Paths, hub: Hub) -> None:
    configure(node, hub, user="nobody")
    found = stages(node)["key"]
    assert found.level is Level.WARN
    assert "another user than nobody" in found.detail


def test_a_certificate_that_is_missing_expired_or_for_another_name_is_named_at_its_stage(
    node: Paths, authority: Authority
) -> None:
    join(node, authority.issue(KEY, "web2"))
    assert "it is for web2, and this node is web1" in failed(node)["certificate"]
    join(node, authority.issue(KEY, "web1", valid_from=-3 * DAY, valid_for=timedelta(days=1)))
    assert "this certificate expired" in failed(node)["certificate"]
    (node.agent_state / NODE_CERTIFICATE).unlink()
    assert "No such file or directory; `nanoexec agent join` makes it" in failed(node)["certificate"]
    assert skipped(node) == list(ROAD)


def test_a_name_that_cannot_be_resolved_fails_at_dns(node: Paths, hub: Hub) -> None:
    configure(node, hub, hub="no-such-host.invalid")
    assert set(failed(node)) == {"dns"}
    assert skipped(node) == list(ROAD[1:])


def test_a_port_where_nobody_listens_fails_at_tcp(node: Paths, hub: Hub) -> None:
    configure(node, hub, report_port=free_ports(1)[0])
    assert set(failed(node)) == {"tcp"}
    assert skipped(node) == list(ROAD[2:])


def test_a_hub_of_another_ca_or_another_name_fails_at_tls(node: Paths, hub: Hub) -> None:
    configure(node, hub, hub_name="other.example.org")
    assert set(failed(node)) == {"tls"}
    configure(node, hub)
    join(node, Authority("another CA").issue(KEY, "web1"))
    assert set(failed(node)) == {"tls"}
    assert skipped(node) == list(ROAD[3:])


def test_a_node_that_is_not_on_the_roster_fails_at_welcome(node: Paths, hub: Hub) -> None:
    hub.welcome = False
    assert "not on the hub's roster" in failed(node)["welcome"]
    assert skipped(node) == list(ROAD[4:])


def test_a_publish_port_that_is_closed_fails_at_hello_and_is_named(node: Paths, hub: Hub) -> None:
    closed = free_ports(1)[0]
    configure(node, hub, publish_port=closed)
    assert f"port {closed} must be open" in failed(node)["hello"]
    assert skipped(node) == ["clock"]


def test_a_hub_that_will_not_hear_the_node_fails_at_hello_in_its_own_words(node: Paths, hub: Hub) -> None:
    hub.deny = "web1 is not on the roster"
    assert failed(node) == {"hello": "the hub will not hear this node: web1 is not on the roster"}


@pytest.mark.parametrize(("ahead", "said"), [(3600.0, "3600 s behind"), (-3600.0, "3600 s ahead of")])
def test_a_clock_that_is_off_is_a_warning_and_not_a_failure(node: Paths, hub: Hub, ahead: float, said: str) -> None:
    hub.ahead = ahead
    found = stages(node)["clock"]
    assert found.level is Level.WARN
    assert said in found.detail
    assert failed(node) == {}


def test_the_hub_is_told_nothing_and_asked_for_no_triggers(node: Paths, hub: Hub) -> None:
    list(examine(node))
    assert hub.asked == [network.Report(runs=())]


def test_a_manifest_with_a_fault_fails_whether_the_runner_runs_or_not(node: Paths) -> None:
    node.actions.mkdir(parents=True)
    (node.actions / "work.toml").write_text('name = "work"\ncommand = 7\n')
    assert "work.toml: command: " in failed(node)["manifest"]
    with running_runner(node):
        assert "work.toml: command: " in failed(node)["manifest"]


def test_a_journal_that_is_none_fails(node: Paths) -> None:
    node.journal.parent.mkdir(parents=True)
    node.journal.write_bytes(b"not a database at all, " * 100)
    assert str(node.journal) in failed(node)["journal"]


def answered_by(paths: Paths, reply: bytes | None) -> Finding:
    """The runner's stage when something else has its socket, which says ``reply`` and hangs up; None: says nothing."""
    paths.run.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(paths.runner_socket))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(reply or b"")

        thread = threading.Thread(target=serve)
        thread.start()
        found = stages(paths)["runner"]
        thread.join()
    return found


@pytest.mark.parametrize(
    ("reply", "said"),
    [(b"", "hung up without an answer"), (b"\xff\xff\xff\xff", "announces"), (b"\0\0\0\x03\x01zz", "of 3 bytes")],
)
def test_a_runner_that_hangs_up_or_talks_nonsense_is_described_as_such(node: Paths, reply: bytes, said: str) -> None:
    found = answered_by(node, reply)
    assert found.level is Level.FAIL
    assert said in found.detail


def test_a_socket_without_its_runner_fails_and_says_what_to_start(node: Paths) -> None:
    node.run.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(node.runner_socket))
    assert "no runner runs" in stages(node)["runner"].detail


def test_a_daemon_that_never_answers_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.bind(str(path))
        stuck.listen()
        with pytest.raises(UnavailableError, match=r"no answer within 0\.1 s"):
            local.ask(path, Describe(), within=0.1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_who_may_not_ask_the_runner_is_told_who_may(paths: Paths) -> None:
    paths.root.chmod(0o755)
    paths.run.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(paths.runner_socket))
        listener.listen()
        paths.runner_socket.chmod(0o600)
        with acting_as_nobody(), pytest.raises(local.NotAllowedError):
            local.ask(paths.runner_socket, Describe())
