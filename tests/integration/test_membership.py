"""An agent that has not joined waits; one that joins, or joins again, goes on by itself."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nanoexec.config import Paths
from tests.support.command_line import as_somebody
from tests.support.fleet import Fleet, FleetNode, Service, assert_one_line, fleet_of, outcomes, wait_until

pytestmark = pytest.mark.timeout(180)

WAITS = "not joined: waiting for `nanoexec agent join HUB:PORT TOKEN`"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with fleet_of() as running:
        yield running


@pytest.fixture
def node(fleet: Fleet) -> Iterator[FleetNode]:
    """A machine that has not joined, with nothing on it, and a name of its own."""
    name = f"web{len(fleet.nodes) + 1}"
    made = fleet.nodes[name] = FleetNode(fleet, name)
    yield made
    made.stop()


def join(fleet: Fleet, node: FleetNode, *words: str) -> Any:
    token = fleet.run("hub", "token", "--node", node.name).stdout.strip()
    where = f"127.0.0.1:{fleet.join_port}"
    return fleet.run("agent", "join", where, token, "--name", node.name, *words, root=node.root)


def key_of(fleet: Fleet, node: FleetNode) -> str:
    """The id of the certificate with which the hub knows it."""
    (found,) = (shown for shown in fleet.nodes_listed() if shown["name"] == node.name)
    return str(found["key"])


def test_an_agent_that_has_not_joined_waits_and_goes_on_by_itself_once_it_has(fleet: Fleet, node: FleetNode) -> None:
    node.start()
    wait_until(lambda: WAITS in node.agent.text(), "it says that it waits")
    join(fleet, node)
    fleet.wait_connected(node.name)
    assert outcomes(fleet.trigger(f"{node.name}:uptime")) == {node.name: "succeeded"}
    assert node.agent.text().count(WAITS) == 1


def test_waiting_is_ready_for_systemd_whose_watchdog_is_fed(node: FleetNode, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(20)
        manager.bind(str(tmp_path / "notify"))
        node.agent.start(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000")
        heard = [manager.recv(1000) for _ in range(4)]
        assert node.agent.stop() == 0
    assert f"READY=1\nSTATUS={WAITS}".encode() in heard
    assert heard.count(b"WATCHDOG=1") >= 2


def test_a_reload_does_not_end_one_that_waits(fleet: Fleet, node: FleetNode) -> None:
    node.start()
    wait_until(lambda: WAITS in node.agent.text(), "it waits")
    assert node.agent.process is not None
    node.agent.process.send_signal(signal.SIGHUP)
    join(fleet, node)
    fleet.wait_connected(node.name)
    assert node.agent.process.poll() is None


def test_one_that_waits_ends_cleanly(node: FleetNode) -> None:
    node.agent.start()
    wait_until(lambda: WAITS in node.agent.text(), "it waits")
    assert node.agent.stop() == 0
    assert "Traceback" not in node.agent.text()


def test_an_agent_that_joins_again_serves_with_its_new_certificate_without_a_restart(
    fleet: Fleet, node: FleetNode
) -> None:
    join(fleet, node)
    node.start()
    fleet.wait_connected(node.name)
    before = key_of(fleet, node)
    process = node.agent.process
    join(fleet, node)
    assert key_of(fleet, node) != before
    wait_until(lambda: "this node has joined anew" in node.agent.text(), "it notices")
    fleet.wait_connected(node.name)
    assert outcomes(fleet.trigger(f"{node.name}:uptime")) == {node.name: "succeeded"}
    assert node.agent.process is process
    assert process is not None
    assert process.poll() is None


def test_an_agent_at_work_is_not_stopped_by_a_key_that_is_moved_away(fleet: Fleet, node: FleetNode) -> None:
    join(fleet, node)
    node.start()
    fleet.wait_connected(node.name)
    key = node.root / "var/lib/nanoexec/agent/node.key"
    text = key.read_text()
    key.unlink()
    assert outcomes(fleet.trigger(f"{node.name}:uptime")) == {node.name: "succeeded"}
    key.write_text(text)
    key.chmod(0o600)
    wait_until(lambda: "this node has joined anew" in node.agent.text(), "that it is back is noticed")
    fleet.wait_connected(node.name)
    assert WAITS not in node.agent.text()


def test_a_key_that_is_there_and_of_no_use_is_an_error(fleet: Fleet, node: FleetNode) -> None:
    join(fleet, node)
    key = node.root / "var/lib/nanoexec/agent/node.key"
    key.write_text("rubbish")
    done = fleet.run("agent", "serve", root=node.root, check=False)
    assert_one_line(done, 1, f"{key}: not a private key in PEM")


def test_joining_leaves_the_administrators_file_alone_and_says_what_it_overrides(fleet: Fleet, node: FleetNode) -> None:
    node.config.parent.mkdir(parents=True)
    node.config.write_text('# mine\nhub = "localhost"\npublish_port = 1\n')
    done = join(fleet, node)
    assert node.config.read_text() == '# mine\nhub = "localhost"\npublish_port = 1\n'
    assert str(Paths(root=node.root).joined) in done.stdout
    assert done.stderr.splitlines() == [
        f"{node.config}: its own hub = 'localhost' holds, not '127.0.0.1'",
        f"{node.config}: its own publish_port = 1 holds, not {fleet.keys['publish_port']}",
    ]
    assert node.config.with_name("joined.toml").stat().st_mode & 0o777 == 0o644


def test_a_name_in_the_administrators_file_is_the_one_to_join_as(fleet: Fleet, node: FleetNode) -> None:
    node.config.parent.mkdir(parents=True)
    node.config.write_text(f'name = "{node.name}"\n')
    token = fleet.run("hub", "token").stdout.strip()
    done = fleet.run("agent", "join", f"127.0.0.1:{fleet.join_port}", token, root=node.root)
    assert f"as {node.name};" in done.stdout
    assert done.stderr == ""


def test_a_fault_in_the_administrators_file_is_said_before_the_token_is_used_up(fleet: Fleet, node: FleetNode) -> None:
    node.config.parent.mkdir(parents=True)
    node.config.write_text("colour = 1\n")
    token = fleet.run("hub", "token").stdout.strip()
    words = ("agent", "join", f"127.0.0.1:{fleet.join_port}", token, "--name", node.name)
    assert_one_line(fleet.run(*words, root=node.root, check=False), 1, f"{node.config}: unknown key colour")
    node.config.unlink()
    fleet.run(*words, root=node.root)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_may_not_write_here_is_told_so_before_the_token_is_used_up(fleet: Fleet, node: FleetNode) -> None:
    join(fleet, node)
    for place in (node.root, node.root.parent):
        place.chmod(0o755)
    key = key_of(fleet, node)
    token = fleet.run("hub", "token", "--node", node.name).stdout.strip()
    words = ("agent", "join", f"127.0.0.1:{fleet.join_port}", token, "--name", node.name)
    refused = as_somebody(node.root, *words)
    assert_one_line(refused, 1, f"{node.root}/var/lib/nanoexec/agent: cannot write: ", "as root")
    assert key_of(fleet, node) == key, "the node is still the one that the hub lets in"
    fleet.run(*words, root=node.root)


def test_with_a_configuration_elsewhere_joining_writes_beside_it(fleet: Fleet, node: FleetNode, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("")
    join(fleet, node, "--config", str(mine))
    assert (tmp_path / "joined.toml").exists()
    assert not node.config.with_name("joined.toml").exists()
    node.runner.start()
    agent = Service(["nanoexec.agent", "--root", str(node.root), "--config", str(mine)], tmp_path / "log")
    agent.start()
    try:
        fleet.wait_connected(node.name)
    finally:
        agent.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_writes_the_key_for_the_account_that_the_state_directory_belongs_to(fleet: Fleet, node: FleetNode) -> None:
    state = node.root / "var/lib/nanoexec/agent"
    state.mkdir(parents=True)
    os.chown(state, 65534, 65534)
    join(fleet, node)
    assert {file.stat().st_uid for file in state.iterdir()} == {65534}
    assert node.config.with_name("joined.toml").stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_state_directory_that_joining_makes_belongs_to_the_agents_account(fleet: Fleet, node: FleetNode) -> None:
    node.config.parent.mkdir(parents=True)
    node.config.write_text('user = "daemon"\n')
    join(fleet, node)
    state = node.root / "var/lib/nanoexec/agent"
    assert {file.stat().st_uid for file in (state, *state.iterdir())} == {1}
    assert state.stat().st_mode & 0o777 == 0o750
