"""What a machine gets wrong: keys, databases, ports, a full disk, a runner that is not there. Said in one line, mended,
and then everything goes on where it was.
"""

import contextlib
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nanoexec.store.opening import OURS
from tests.support.fleet import Fleet, FleetNode, assert_one_line, fleet_of, outcomes, wait_until, whoami

pytestmark = pytest.mark.timeout(180)


def start(module: str, root: Path) -> "subprocess.CompletedProcess[str]":
    """A daemon that ends by itself."""
    command = [sys.executable, "-m", module, "--root", str(root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


# The hub


@pytest.fixture(scope="module")
def hub() -> Iterator[Fleet]:
    """A hub without nodes."""
    with fleet_of() as running:
        yield running


def query(database: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute(statement)
        connection.commit()


def state(fleet: Fleet, name: str) -> Path:
    return fleet.root / "var/lib/nanoexec/hub" / name


BREAK: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "its key is readable": (
        "hub.key",
        lambda file: file.chmod(0o644),
        "hub.key: readable by others (mode 0644): chmod 600 it",
    ),
    "the key of its CA is readable": (
        "ca.key",
        lambda file: file.chmod(0o640),
        "ca.key: readable by others (mode 0640): chmod 600 it",
    ),
    "its key is gone": ("hub.key", lambda file: file.unlink(), "hub.key: missing; `nanoexec hub init` makes it"),
    "its key is empty": ("hub.key", lambda file: file.write_text(""), "hub.key: not a private key in PEM"),
    "its certificate is of another key": (
        "hub.crt",
        lambda file: shutil.copy(file.with_name("ca.crt"), file),
        "hub.key: cannot be used with hub.crt (key values mismatch)",
    ),
    "its database is newer": (
        "hub.db",
        lambda file: query(file, "UPDATE alembic_version SET version_num = '9999'"),
        f"hub.db: its version is 9999, this nanoexec knows {OURS.head}: made by a newer nanoexec: upgrade this one",
    ),
    "its database is something else": (
        "hub.db",
        lambda file: file.write_text("not a database " * 100),
        "hub.db: is not a database: restore a backup, or move the file away to begin anew",
    ),
}


@pytest.mark.parametrize("case", BREAK)
def test_a_hub_does_not_start_when(hub: Fleet, case: str) -> None:
    name, damage, said = BREAK[case]
    hub.hub.stop()
    kept = shutil.copytree(state(hub, ""), hub.directory / "kept")
    damage(state(hub, name))
    assert_one_line(start("nanoexec.hub", hub.root), 1, " CRITICAL ", f"{state(hub, '')}/{said}")
    shutil.rmtree(state(hub, ""))
    kept.rename(state(hub, ""))
    hub.start_hub()


@pytest.mark.parametrize("key", ["publish_port", "report_port"])
def test_a_hub_does_not_start_on_a_port_that_somebody_else_has(hub: Fleet, key: str) -> None:
    hub.hub.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", hub.keys[key]))
        other.listen()
        assert_one_line(start("nanoexec.hub", hub.root), 1, " CRITICAL ", f"127.0.0.1:{hub.keys[key]}", "in use")
    hub.start_hub()


def test_a_join_port_that_somebody_else_has_is_logged_and_taken_when_it_is_free(hub: Fleet) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", hub.join_port))
        other.listen()
        hub.run("hub", "token", "--ttl", "30s")
        assert f"nobody can join: tls+tcp://127.0.0.1:{hub.join_port}" in hub.hub.text()
    wait_until(lambda: hub.status()["join_port"] == hub.join_port, "the hub listens for joining machines")


def test_a_second_hub_on_the_same_directory_is_turned_away_and_the_first_goes_on(hub: Fleet) -> None:
    done = start("nanoexec.hub", hub.root)
    assert_one_line(done, 1, " CRITICAL ", "another hub is already running on this directory")
    assert hub.status()["hub"] == "localhost", "it has not taken the control socket away either"


def test_operators_that_are_no_group_are_named_before_anything_listens(hub: Fleet) -> None:
    hub.hub.stop()
    hub.keys["operators"] = "no-such-group"
    hub.configure()
    said = "hub.toml: operators: there is no group 'no-such-group'"
    assert_one_line(start("nanoexec.hub", hub.root), 1, said)
    del hub.keys["operators"]
    hub.configure()
    hub.start_hub()


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path], None]]:
    """Mounts a file system of 3 MB."""
    with contextlib.ExitStack() as stack:

        def mount(directory: Path) -> None:
            directory.mkdir(parents=True)
            made = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(directory)],
                capture_output=True,
                text=True,
                check=False,
            )
            if made.returncode:
                pytest.skip(f"only root on its own machine can make a small disk: {made.stderr.strip()}")
            stack.callback(os.removedirs, directory)  # after that: where it was mounted could not be removed before
            stack.callback(subprocess.run, ["umount", "--lazy", str(directory)], check=True)

        yield mount


def test_a_hub_whose_disk_is_full_refuses_triggers_lives_on_and_forgets_nothing(
    small_disk: Callable[[Path], None],
) -> None:
    fleet = Fleet()
    small_disk(state(fleet, ""))
    with fleet:
        fleet.add("web1")
        node = fleet.nodes["web1"]
        node.action("greet", f"command = ['/bin/echo', 'hello']\nuser = '{whoami()}'\n")
        assert outcomes(fleet.trigger("ALL:greet")) == {"web1": "succeeded"}
        filler = state(fleet, "filler")
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

        wait_until(lambda: fleet.run("trigger", "ALL:greet", check=False).returncode, "the disk to be full")
        done = fleet.run("trigger", "ALL:greet", check=False)
        said = "hub.db: the disk is full: make room, nothing of this change was stored"
        assert_one_line(done, 1, "nanoexec: the hub cannot write its database: ", said)
        assert said in fleet.status()["problem"]
        assert len(fleet.history()) >= 1, "what was stored can be read"
        logged = [line for line in fleet.hub.text().splitlines() if "the disk is full" in line]
        assert 1 <= len(logged) <= 5, fleet.hub.text()

        filler.unlink()
        # An agent that got no answer asks again after half a minute.
        wait_until(lambda: fleet.connected() == {"web1"}, "the node is here again", within=60)
        assert outcomes(fleet.trigger("ALL:greet")) == {"web1": "succeeded"}
        assert fleet.status()["problem"] == ""
        assert {entry["outcome"] for entry in fleet.history()} == {"succeeded"}


# A node


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """One node; ``ledger`` writes down each start, where nanoexec does not look."""
    with fleet_of("web1") as running:
        node = running.nodes["web1"]
        script = f'echo "$NANOEXEC_TRIGGER_ID" >> {node.root}/ledger'
        node.action("ledger", f"command = ['/bin/sh', '-c', '{script}']\nuser = '{whoami()}'\n")
        assert outcomes(running.trigger("ALL:ledger")) == {"web1": "succeeded"}
        yield running


def starts(node: FleetNode) -> list[str]:
    return (node.root / "ledger").read_text().split()


def test_an_agent_does_not_start_with_a_key_that_others_can_read(fleet: Fleet) -> None:
    node = fleet.nodes["web1"]
    key = node.root / "var/lib/nanoexec/agent/node.key"
    node.agent.stop()
    key.chmod(0o644)
    done = start("nanoexec.agent", node.root)
    assert_one_line(done, 1, " CRITICAL ", f"{key}: readable by others (mode 0644): chmod 600 it")
    key.chmod(0o600)
    node.agent.start()
    fleet.wait_connected("web1")


def test_a_trigger_waits_for_a_runner_that_is_down_and_runs_once_when_it_is_back(fleet: Fleet) -> None:
    node = fleet.nodes["web1"]
    node.runner.stop()
    trigger = fleet.issue("ALL:ledger")
    said = f"trigger {trigger}: the runner cannot be reached at {node.root}/run/nanoexec/runner.sock: "
    wait_until(lambda: said in node.agent.text(), "the agent says so")
    assert fleet.shown(trigger)["web1"]["state"] == "sent"
    node.runner.start()
    assert fleet.wait_state(trigger, "web1", "finished")["run"]["outcome"] == "succeeded"
    assert starts(node).count(trigger) == 1


def test_an_agent_that_comes_up_before_its_runner_offers_its_actions_once_the_runner_is_there(fleet: Fleet) -> None:
    node = fleet.nodes["web1"]
    node.stop()
    node.agent.log.write_text("")
    node.agent.start()
    wait_until(lambda: "the node's actions are not known: the runner cannot be reached" in node.agent.text(), "it said")
    node.runner.start()
    fleet.wait_connected("web1")
    assert node.agent.text().count("the node's actions are not known") == 1, "once is enough"


def test_a_trigger_that_expires_while_the_runner_is_down_never_runs_and_the_node_has_said_why(fleet: Fleet) -> None:
    node = fleet.nodes["web1"]
    node.runner.stop()
    trigger = fleet.issue("ALL:ledger", "--expires", "1.5s")
    delivery = fleet.wait_state(trigger, "web1", "expired")
    # Hub and node both judge the expiry, once a second each; whoever looks first says it.
    assert re.search("the runner cannot be reached at |the node did not answer until it expired", delivery["reason"])
    assert f"trigger {trigger}: the runner cannot be reached at " in node.agent.text()
    node.runner.start()
    assert outcomes(fleet.trigger("ALL:ledger")) == {"web1": "succeeded"}
    assert trigger not in starts(node)


def test_a_journal_of_a_newer_version_starts_nothing_and_what_waited_runs_once_it_can_be_read(fleet: Fleet) -> None:
    node = fleet.nodes["web1"]
    with contextlib.closing(sqlite3.connect(node.journal)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    query(node.journal, f"PRAGMA user_version = {version + 1}")
    said = f"{node.journal}: the journal has version {version + 1}, this side knows {version}: upgrade nanoexec"
    done = subprocess.run(
        [sys.executable, "-m", "nanoexec.run", "--root", str(node.root), "ledger"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert_one_line(done, 1, said)
    trigger = fleet.issue("ALL:ledger")
    wait_until(lambda: f"trigger {trigger}: {said}" in node.agent.text(), "the agent says so")
    assert trigger not in starts(node)
    assert said in node.runner.text()
    query(node.journal, f"PRAGMA user_version = {version}")
    assert fleet.wait_state(trigger, "web1", "finished")["run"]["outcome"] == "succeeded"
    assert starts(node).count(trigger) == 1


def test_an_agent_that_cannot_keep_its_cursor_says_so_once_and_keeps_its_link(fleet: Fleet) -> None:
    """As on a disk on which only root finds room: the journal is written, and nothing of the agent's."""
    node = fleet.nodes["web1"]
    cursor = node.root / "var/lib/nanoexec/agent/cursor"
    wait_until(cursor.is_file, "the agent has kept it")
    cursor.unlink()
    cursor.mkdir()  # a file cannot take its place
    node.agent.log.write_text("")
    for _ in range(3):
        assert outcomes(fleet.trigger("ALL:ledger")) == {"web1": "succeeded"}
        wait_until(lambda: f"{cursor}: cannot write: " in node.agent.text(), "the agent says so")
    assert "no link to the hub" not in node.agent.text()
    assert node.agent.text().count("cannot write") == 1, "once is enough"
    cursor.rmdir()
    wait_until(cursor.is_file, "it is kept without anything new to keep")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_the_runner_turns_away_a_user_who_is_not_the_agent(fleet: Fleet) -> None:
    node = fleet.nodes["web1"]
    path = node.root / "run/nanoexec/runner.sock"
    script = (
        "import os, socket, sys\n"
        "with socket.socket(socket.AF_UNIX) as caller:\n"
        "    caller.connect(sys.argv[1])\n"
        "    sys.exit(len(caller.recv(1)))\n"
    )
    mode = path.stat().st_mode
    for directory in (path, *path.parents[:4]):
        directory.chmod(0o777)
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", script, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    path.chmod(mode)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: "uid 65534 may not use the runner" in node.runner.text(), "the runner says so")
    assert outcomes(fleet.trigger("ALL:ledger")) == {"web1": "succeeded"}
