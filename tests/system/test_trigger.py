"""From a token to a result: a machine joins, by hand or by itself, and operators trigger it; others do not."""

import json
from pathlib import Path

import pytest

from tests.support.fleet import assert_one_line
from tests.system.estate import Estate, install, outcomes
from tests.system.machines import Machine
from tests.system.recipe import Suite

TOKEN_IS_NOT_IN = ("/var", "/etc", "/run", "/root", "/tmp", "/srv")


@pytest.fixture(scope="module", autouse=True)
def users(estate: Estate) -> None:
    """Two ordinary users of the hub: alice may trigger, mallory may not."""
    estate.hub.run("useradd", "--groups", "nanoexec-operators", "alice")
    estate.hub.run("useradd", "mallory")


def preseed(node: Machine, hub: str, token: str) -> None:
    """Answer the questions of the package before they are asked."""
    answers = [f"hub string {hub}", f"token password {token}", "takeover boolean true"]
    node.run("debconf-set-selections", stdin="".join(f"nanoexec-agent nanoexec-agent/{answer}\n" for answer in answers))


def places_of(token: str, node: Machine) -> list[str]:
    """Where on a node the secret part of a token can be read: files, and the journal."""
    secret = token.strip().rpartition(".")[2][22:42]  # behind the pin of the CA, which is no secret
    found = node.attempt("grep", "-rlaF", "-e", secret, *TOKEN_IS_NOT_IN).stdout.split()
    return found + ["the journal"] * (secret in node.run("journalctl", "--no-pager", "--output=cat"))


def assert_healthy(node: Machine) -> None:
    """Nothing on a machine has failed, the agent's service serves, and the runner's socket listens."""
    assert node.attempt("systemctl", "is-failed", "nanoexec-agent.service").stdout == "active\n"
    assert node.run("systemctl", "is-active", "nanoexec-runner.socket") == "active\n"
    assert node.run("systemctl", "list-units", "--failed", "--no-legend") == ""
    assert node.run("systemctl", "is-system-running") == "running\n"


def test_an_ordinary_user_who_is_an_operator_triggers_all_nodes(estate: Estate) -> None:
    said = json.loads(estate.hub.run("nanoexec", "trigger", "ALL:uptime", "-o", "json", user="alice"))
    assert outcomes({delivery["node"]: delivery for delivery in said["deliveries"]}) == dict.fromkeys(
        estate.nodes, "succeeded"
    )
    runs = estate.history("--limit", "3")
    assert {(run["node"], run["action"], run["by"]) for run in runs} == {
        (node, "uptime", "alice") for node in estate.nodes
    }


def test_who_is_no_operator_is_refused_in_one_clear_line(estate: Estate) -> None:
    before = estate.history()
    done = estate.hub.attempt("nanoexec", "trigger", "ALL:uptime", user="mallory")
    assert_one_line(done, 6, "may not use the hub's control socket", "nanoexec-operators")
    assert estate.history() == before


def test_a_node_that_has_not_joined_waits_for_it_and_has_not_failed(
    estate: Estate, packages: dict[Suite, list[Path]]
) -> None:
    node = estate.nodes["node1"]
    node.fresh()
    install(node, packages["bookworm"])
    assert_healthy(node)
    node.reboot()
    assert_healthy(node)
    assert "not joined" in node.run("systemctl", "show", "--property=StatusText", "nanoexec-agent.service")

    serving = node.run("systemctl", "show", "--property=MainPID", "nanoexec-agent.service")
    token = estate.hub.run("nanoexec", "hub", "token", "--node", "node1")
    node.run("nanoexec", "agent", "join", "hub:4446", "-", stdin=token)
    estate.wait_connected("node1")
    assert outcomes(estate.trigger("node1:uptime")) == {"node1": "succeeded"}
    assert node.run("systemctl", "show", "--property=MainPID", "nanoexec-agent.service") == serving
    assert places_of(token, node) == []


def test_a_preseeded_install_joins_by_itself_and_forgets_the_token(
    estate: Estate, packages: dict[Suite, list[Path]]
) -> None:
    node = estate.nodes["node2"]
    node.fresh()
    token = estate.hub.run("nanoexec", "hub", "token", "--node", "node2").strip()
    preseed(node, "hub:4446", token)
    assert "/var/cache/debconf/passwords.dat" in places_of(token, node)  # it would be found
    install(node, packages["trixie"])
    estate.wait_connected("node2")
    assert outcomes(estate.trigger("node2:uptime")) == {"node2": "succeeded"}
    assert places_of(token, node) == []
    assert_healthy(node)


def test_a_preseeded_install_that_cannot_join_succeeds_says_why_and_forgets_the_token(
    estate: Estate, packages: dict[Suite, list[Path]]
) -> None:
    node = estate.nodes["node3"]
    node.fresh()
    token = estate.hub.run("nanoexec", "hub", "token", "--node", "node3").strip()
    preseed(node, "hub:4447", token)  # where nobody listens
    install(node, packages["trixie"])
    assert node.attempt("test", "-e", "/etc/nanoexec/joined.toml").returncode == 1
    assert "this machine has not joined hub:4447" in node.get("/var/log/apt/term.log")
    assert places_of(token, node) == []
    assert_healthy(node)
    node.run("nanoexec", "agent", "join", "hub:4446", "-", stdin=token)  # it was not spent
    estate.wait_connected("node3")
