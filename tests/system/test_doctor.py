"""What ``nanoexec doctor`` says of a node with its hub, all well and then with one thing wrong after the other."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.support.fleet import wait_until
from tests.system.cron import faketime
from tests.system.estate import OFTEN, PATIENCE, Estate, outcomes
from tests.system.machines import Machine

SUITES: Final = pytest.mark.parametrize("name", ["node1", "node2"], ids=["bookworm", "trixie"])
HOUR: Final = 3600.0  # seconds
NODE_CA: Final = "/var/lib/nanoexec/agent/ca.crt"
HUB_KEYS: Final = "/var/lib/nanoexec/hub"

Faults = dict[str, str]


def faults(machine: Machine, *before: str, level: str = "FAIL") -> Faults:
    """What the doctor finds wrong on a machine, by stage; exit status and level are checked against each other."""
    done = machine.attempt(*before, "nanoexec", "doctor", "-o", "json")
    findings = json.loads(done.stdout)
    assert done.returncode == any(finding["level"] == "FAIL" for finding in findings), done.stdout
    return {finding["stage"]: finding["detail"] for finding in findings if finding["level"] == level}


@contextlib.contextmanager
def replaced(machine: Machine, path: str, content: str) -> Iterator[None]:
    """Other content for a file, whose owner and mode stay."""
    machine.run("cp", "-p", path, f"{path}.kept")
    machine.run("sh", "-c", 'cat > "$1"', "sh", path, stdin=content)
    try:
        yield
    finally:
        machine.run("mv", f"{path}.kept", path)


def come_back(estate: Estate) -> None:
    """Have all nodes at the hub again, now and not after the pause that grows with each attempt in vain."""
    estate.wait_hub()
    for machine in estate.nodes.values():
        machine.run("systemctl", "restart", "nanoexec-agent.service")
    estate.wait_connected(*estate.nodes)


def assert_well(machine: Machine) -> None:
    """Every stage is good: none fails, warns or is skipped, once an agent that was just started is linked again."""

    def findings() -> Any:
        return json.loads(machine.attempt("nanoexec", "doctor", "-o", "json").stdout)

    with contextlib.suppress(AssertionError):
        wait_until(lambda: all(finding["level"] == "ok" for finding in findings()), "all is well", PATIENCE, OFTEN)
    found = findings()
    assert {finding["stage"]: finding for finding in found if finding["level"] != "ok"} == {}
    assert len(found) >= 10


@pytest.fixture
def node(estate: Estate, name: str) -> Iterator[Machine]:
    """A node that is well before and after."""
    machine = estate.nodes[name]
    assert_well(machine)
    yield machine
    assert_well(machine)
    estate.wait_connected(name)


def test_all_is_well_on_hub_and_nodes(estate: Estate) -> None:
    for machine in estate.machines.values():
        assert_well(machine)


def test_a_hub_that_is_down_is_named(estate: Estate) -> None:
    estate.hub.run("systemctl", "stop", "nanoexec-hub.path", "nanoexec-hub.service")
    try:
        for name in ("node1", "node2"):
            found = faults(estate.nodes[name])
            assert list(found) == ["tcp"]
            assert "hub port 4445" in found["tcp"]
            assert "refused" in found["tcp"]
        assert "no hub runs" in faults(estate.hub)["hub"]
    finally:
        estate.hub.run("systemctl", "start", "nanoexec-hub.path", "nanoexec-hub.service")
        come_back(estate)
    assert_well(estate.nodes["node1"])


@SUITES
def test_a_hub_in_the_dark_is_named(estate: Estate, node: Machine) -> None:
    estate.hub.cut()
    try:
        assert list(faults(node)) == ["tcp"]
    finally:
        estate.hub.heal()


@SUITES
def test_another_authority_than_the_hubs_is_named(estate: Estate, node: Machine) -> None:
    estate.hub.run("rm", "-rf", "/srv/other")
    estate.hub.run("nanoexec", "hub", "init", "--root", "/srv/other", "--name", "hub")
    other = estate.hub.get(f"/srv/other{HUB_KEYS}/ca.crt")
    with replaced(node, NODE_CA, other):
        found = faults(node)
    assert len(found) == 1
    (said,) = found.values()
    assert "ca.crt" in said or "CA" in said, found


def test_a_hub_with_another_authority_is_named(estate: Estate) -> None:
    hub, node = estate.hub, estate.nodes["node2"]
    script = """
        systemctl stop nanoexec-hub.path nanoexec-hub.service
        mv "$1" "$1.kept"
        install -d -o nanoexec-hub -g nanoexec-hub -m 700 "$1"
        nanoexec hub init --name hub
        systemctl start nanoexec-hub.service
    """
    hub.run("sh", "-euc", script, "sh", HUB_KEYS)
    try:
        estate.wait_hub()
        found = faults(node)
        assert list(found) == ["tls"]
        assert "another CA" in found["tls"] or "not signed" in found["tls"], found
    finally:
        back = """
            systemctl stop nanoexec-hub.service
            rm -r "$1"
            mv "$1.kept" "$1"
            systemctl start nanoexec-hub.path nanoexec-hub.service
        """
        hub.run("sh", "-euc", back, "sh", HUB_KEYS)
        come_back(estate)
    assert_well(node)


@SUITES
def test_a_clock_that_is_an_hour_off_is_named_and_nothing_else(node: Machine) -> None:
    for shift, word in (("+1h", "ahead of"), ("-1h", "behind")):
        found = faults(node, "env", f"LD_PRELOAD={faketime(node)}", f"FAKETIME={shift}", level="warn")
        assert list(found) == ["clock"]
        assert word in found["clock"]
        assert abs(float(found["clock"].split()[0]) - HOUR) < HOUR / 60


@SUITES
def test_an_agent_whose_clock_is_an_hour_off_works_and_the_hub_names_it(
    estate: Estate, node: Machine, name: str
) -> None:
    drop_in = "/run/systemd/system/nanoexec-agent.service.d"
    node.put(f"[Service]\nEnvironment=LD_PRELOAD={faketime(node)} FAKETIME=+1h\n", f"{drop_in}/clock.conf")
    try:
        node.run("systemctl", "daemon-reload")
        node.run("systemctl", "restart", "nanoexec-agent.service")
        wait_until(lambda: (estate.roster()[name].get("skew") or 0) > HOUR / 2, "the hub knows", PATIENCE)
        assert outcomes(estate.trigger(f"{name}:uptime")) == {name: "succeeded"}
        assert f"{name} +36" in faults(estate.hub, level="warn")["clocks"]
    finally:
        node.run("rm", "-r", drop_in)
        node.run("systemctl", "daemon-reload")
        node.run("systemctl", "restart", "nanoexec-agent.service")
        wait_until(lambda: abs(estate.roster()[name].get("skew") or 0) < HOUR / 2, "the hub knows again", PATIENCE)


@SUITES
def test_a_masked_runner_is_named_with_what_to_do(node: Machine) -> None:
    node.run("systemctl", "stop", "nanoexec-runner.socket", "nanoexec-runner.service")
    node.run("systemctl", "mask", "nanoexec-runner.socket")
    try:
        found = faults(node)
        assert list(found) == ["runner"]
        assert "nanoexec-runner.socket is masked: `systemctl unmask nanoexec-runner.socket`" in found["runner"]
    finally:
        node.run("systemctl", "unmask", "nanoexec-runner.socket")
        node.run("systemctl", "start", "nanoexec-runner.socket")


@SUITES
def test_a_broken_manifest_is_named_with_its_file_and_key(node: Machine) -> None:
    path = "/etc/nanoexec/actions.d/broken.toml"
    node.put('name = "broken"\ncommand = ["true"]\ntimeout = 5\n', path)
    try:
        found = faults(node)
        assert list(found) == ["manifest"]
        assert path in found["manifest"]
        assert "timeout" in found["manifest"]
    finally:
        node.run("rm", path)


def test_a_revoked_node_is_named(estate: Estate) -> None:
    node = estate.nodes["node3"]
    assert_well(node)
    estate.hub.run("nanoexec", "nodes", "revoke", "node3")
    found = faults(node)
    assert list(found) == ["welcome"]
    assert "revoked" in found["welcome"], found
    token = estate.hub.run("nanoexec", "hub", "token", "--node", "node3")
    node.run("nanoexec", "agent", "join", "hub:4446", "-", stdin=token)
    assert_well(node)
