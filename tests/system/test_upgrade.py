"""Upgrades while work is going on, also the node's own as an action; and a downgrade, which is refused in one line."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.support.fleet import wait_until
from tests.system.conftest import FOUR, LATER
from tests.system.cron import fast_cron
from tests.system.estate import (
    GATE,
    INSTALL,
    OFTEN,
    PATIENCE,
    Estate,
    adopt_line,
    each,
    install,
    ledger,
    outcomes,
)
from tests.system.machines import Machine
from tests.system.recipe import Suite

Packages = dict[Suite, list[Path]]
UPGRADE: Final = f"""\
name = "upgrade"
command = ["sh", "-c", "exec {" ".join(INSTALL)} /srv/newer/*.deb"]
[env]
DEBIAN_FRONTEND = "noninteractive"
"""
EDIT: Final = "# An edit of this machine's own.\n"
AGENT, RUNNER, SOCKET, HUB = (
    "nanoexec-agent.service",
    "nanoexec-runner.service",
    "nanoexec-runner.socket",
    "nanoexec-hub.service",
)
JOURNAL: Final = "/var/lib/nanoexec/journal/journal.db"
STORE: Final = "/var/lib/nanoexec/hub/hub.db"
EXECUTE: Final = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as database:
    print(*(value for row in database.execute(sys.argv[2], sys.argv[3:]) for value in row))
"""
SET_VERSION: Final = "UPDATE alembic_version SET version_num = ?"
NEWER: Final = 9999  # a version that nobody knows


def execute(machine: Machine, database: str, *statement: str) -> str:
    """Ask or change a database behind the back of nanoexec, with a statement and its values; gives the answer."""
    return machine.run("python3", "-c", EXECUTE, database, *statement).strip()


def since(machine: Machine, unit: str) -> str:
    """When a unit became what it is, and what it is: another value once it has been stopped or started."""
    return machine.run("systemctl", "show", "-P", "ActiveEnterTimestampMonotonic", "-P", "MainPID", unit)


def cursor(machine: Machine) -> str:
    """Where the log of a machine ends now."""
    said = machine.run("journalctl", "--show-cursor", "--lines=1", "--output=cat", "--no-pager")
    return said.splitlines()[-1].removeprefix("-- cursor: ")


def said(machine: Machine, unit: str, after: str) -> list[str]:
    """What the program of a unit has logged since."""
    words = ("journalctl", f"--unit={unit}", f"--after-cursor={after}", "--output=cat", "--no-pager")
    return machine.run(*words, "_COMM=python3").splitlines()


def test_a_node_upgrades_itself_by_an_action_while_another_run_goes_on(estate: Estate, newer: Packages) -> None:
    names = tuple(estate.nodes)
    for name, node in estate.nodes.items():
        for package in newer[FOUR[name]]:
            if not package.name.startswith("nanoexec-hub"):
                node.put(package, f"/srv/newer/{package.name}")
        node.put(UPGRADE, "/etc/nanoexec/actions.d/upgrade.toml")
        node.put(node.get("/etc/nanoexec/agent.toml") + EDIT, "/etc/nanoexec/agent.toml")
    running = estate.issue("ALL:mark", "-a", f"until={GATE}")
    estate.wait_state(running, "running")
    before = {node["version"] for node in estate.roster().values()}
    sockets, runners = ({name: since(estate.nodes[name], unit) for name in names} for unit in (SOCKET, RUNNER))

    upgrade = estate.issue("ALL:upgrade")
    assert outcomes(estate.wait_state(upgrade, "finished")) == dict.fromkeys(names, "succeeded")

    def back() -> bool:
        here = estate.connected()
        return {node["version"] for name, node in estate.roster().items() if name in here} == {LATER}

    wait_until(back, f"the agents are back, and {LATER}", PATIENCE, OFTEN)
    estate.wait_connected(*names)
    assert LATER not in before
    assert outcomes(estate.shown(running)) == dict.fromkeys(names, "running")
    for name, node in estate.nodes.items():
        assert node.run("dpkg-query", "-W", "-f", "${Version}", "nanoexec-agent").startswith(LATER)
        assert node.run("systemctl", "is-active", AGENT, SOCKET) == "active\nactive\n"
        assert node.run("systemctl", "list-units", "--failed", "--no-legend") == ""
        assert since(node, SOCKET) == sockets[name]  # whoever called the runner meanwhile was in its queue
        assert since(node, RUNNER) != runners[name]  # it has the new code
        assert node.get("/etc/nanoexec/agent.toml").endswith(EDIT)
        node.put("", GATE)
    assert outcomes(estate.wait_state(running, "finished")) == dict.fromkeys(names, "succeeded")
    assert outcomes(estate.trigger("ALL:mark")) == dict.fromkeys(names, "succeeded")
    told = [(entry["node"], entry["id"]) for entry in estate.history() if entry["id"] in {upgrade, running}]
    assert sorted(told) == sorted((name, id_) for name in names for id_ in (upgrade, running))
    for node in estate.nodes.values():
        assert ledger(node).count(running) == 1


def test_the_hub_is_upgraded_during_a_trigger_over_all_nodes(estate: Estate, newer: Packages) -> None:
    hub = estate.hub
    each(estate.nodes.values(), lambda node: node.run("rm", "-f", GATE))
    before = since(hub, HUB)
    running = estate.issue("ALL:mark", "-a", f"until={GATE}")
    estate.wait_state(running, "running")
    with ThreadPoolExecutor(1) as pool:
        upgrade = pool.submit(install, hub, newer["bookworm"])
        wait_until(lambda: since(hub, HUB) != before or upgrade.done(), "the hub makes way", PATIENCE)
        each(estate.nodes.values(), lambda node: node.put("", GATE))
        upgrade.result()
    estate.wait_hub()
    assert f"version {LATER}" in hub.run("nanoexec", "hub", "status")
    assert hub.get("/etc/nanoexec/hub.toml").startswith("beacon_interval = 2.0\n")  # the machine's own edit
    assert outcomes(estate.wait_state(running, "finished")) == dict.fromkeys(estate.nodes, "succeeded")
    estate.wait_connected(*estate.nodes)
    assert outcomes(estate.trigger("ALL:uptime")) == dict.fromkeys(estate.nodes, "succeeded")
    assert [entry["node"] for entry in estate.history("--action", "mark") if entry["id"] == running] != []
    for node in estate.nodes.values():
        assert ledger(node).count(running) == 1


def test_a_newer_journal_is_refused_in_one_line_while_the_crontab_goes_on(estate: Estate) -> None:
    node = estate.nodes["node3"]
    before = ledger(node)
    adopt_line(node)
    version = execute(node, JOURNAL, "PRAGMA user_version")
    start = cursor(node)
    execute(node, JOURNAL, f"PRAGMA user_version = {NEWER}")
    node.run("systemctl", "restart", AGENT, RUNNER)
    trigger = estate.issue("node3:mark")
    wait_until(lambda: any("rejected" in line for line in said(node, RUNNER, start)), "the runner refuses")
    fault = f"{JOURNAL}: the journal has version {NEWER}, this side knows {version}: upgrade nanoexec"
    assert {line.removeprefix("rejected: ") for line in said(node, RUNNER, start)} == {fault}
    with fast_cron(node):
        wait_until(lambda: len(ledger(node)) > len(before), "a slot of the crontab runs its own command", PATIENCE)
    assert set(ledger(node)[len(before) :]) == {"original"}

    execute(node, JOURNAL, f"PRAGMA user_version = {version}")
    assert outcomes(estate.wait_state(trigger, "finished")) == {"node3": "succeeded"}
    assert ledger(node).count(trigger) == 1


def test_a_newer_database_of_the_hub_is_refused_in_one_line(estate: Estate) -> None:
    hub = estate.hub
    hub.run("systemctl", "stop", HUB)
    version = execute(hub, STORE, "SELECT version_num FROM alembic_version")
    start = cursor(hub)
    execute(hub, STORE, SET_VERSION, str(NEWER))
    assert hub.attempt("systemctl", "start", HUB).returncode != 0
    fault = (
        f"{STORE}: its version is {NEWER}, this nanoexec knows {version}: made by a newer nanoexec: upgrade this one"
    )
    wait_until(lambda: said(hub, HUB, start), "the hub says why")
    assert set(said(hub, HUB, start)) == {fault}

    execute(hub, STORE, SET_VERSION, version)
    estate.wait_hub()  # without another step: the unit is tried again
