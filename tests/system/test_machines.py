"""The machines themselves: what the other system tests take for granted."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.fleet import wait_until
from tests.system.lan import Lan
from tests.system.machines import CommandError, Machine
from tests.system.packages import REPOSITORY
from tests.system.recipe import Suite

Machines = dict[str, Machine]
# A program that boots a machine, and then waits to be ended.
BOOT = """
import sys, tempfile
from pathlib import Path
from tests.system.lan import Lan
from tests.system.machines import Machine
with Lan(Path(sys.argv[1])) as lan:
    Machine(lan, "node1", Path(sys.argv[2])).power_on()
    print("up", flush=True)
    sys.stdin.read()
"""


def reaches(here: Machine, there: str) -> bool:
    """Whether a packet gets to a machine and back, by name."""
    return here.attempt("ping", "-q", "-c1", "-W2", there).returncode == 0


def left_over(name: str) -> list[str]:
    """What there is on this machine of a network that had this name."""
    commands = (["losetup", "--list", "--noheadings"], ["ip", "netns", "list"], ["cat", "/proc/self/mountinfo"])
    found = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for command in commands]
    seen = [line for text in found for line in text.splitlines() if name in line]
    seen += [str(path) for path in (Path(tempfile.gettempdir()) / name,) if path.exists()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words, group = (process / "cmdline").read_bytes().decode(), (process / "cgroup").read_text()
        except OSError:
            continue  # ended since
        if name in group or (name in words and BOOT not in words):
            seen.append(f"{process.name}: {words}")
    script = 'mount -t cgroup2 cgroup2 /sys/fs/cgroup && find /sys/fs/cgroup -maxdepth 1 -name "$1"'
    words_ = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "sh", name]
    return seen + subprocess.run(words_, check=True, capture_output=True, text=True).stdout.split()


def test_machines_of_two_suites_boot_whole(machines: Machines) -> None:
    suites = {
        name: machine.run("sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME") for name, machine in machines.items()
    }
    assert suites == {"hub": "bookworm\n", "node1": "bookworm\n", "node2": "trixie\n", "node3": "trixie\n"}
    for machine in machines.values():
        assert machine.run("systemctl", "list-units", "--failed", "--no-legend") == ""
        assert machine.run("cat", "/proc/1/comm") == "systemd\n"
        assert machine.run("systemctl", "is-active", "cron") == "active\n"
    assert len({machine.get("/etc/machine-id") for machine in machines.values()}) == 4


def test_machines_know_and_reach_each_other_and_nobody_else(machines: Machines) -> None:
    for here in machines.values():
        assert here.run("hostname", "-f") == f"{here.name}\n"
        assert all(reaches(here, there) for there in machines)
        assert here.run("ip", "route", "show", "default") == ""


def test_a_cut_machine_is_silent_until_it_is_healed(machines: Machines) -> None:
    hub, node1 = machines["hub"], machines["node1"]
    node1.cut()
    try:
        assert not reaches(hub, "node1")
        assert not reaches(node1, "hub")
        assert "LOWER_UP" in node1.run("ip", "link", "show", "host0")  # not a pulled plug
        assert reaches(hub, "node2")
    finally:
        node1.heal()
    wait_until(lambda: reaches(hub, "node1"), "the hub reaches node1 again")


def test_a_reboot_keeps_the_disk_and_the_name(machines: Machines) -> None:
    node = machines["node2"]
    before, identity = node.boot_id(), node.get("/etc/machine-id")
    node.put("kept", "/srv/file")
    node.reboot()
    assert node.boot_id() != before
    assert node.get("/etc/machine-id") == identity
    assert node.get("/srv/file") == "kept"
    assert reaches(machines["hub"], "node2")


def test_a_power_cut_keeps_what_was_fsynced_and_loses_what_was_not(machines: Machines) -> None:
    node = machines["node3"]
    before = node.boot_id()
    node.run("sh", "-c", "echo safe > /srv/safe; sync /srv/safe /srv; sync; echo lost > /srv/lost")
    node.power_cut()
    with pytest.raises(CommandError, match="node3 is off"):
        node.run("true")
    assert not reaches(machines["hub"], "node3")
    node.power_on()
    assert node.boot_id() != before
    assert node.get("/srv/safe") == "safe\n"
    assert node.attempt("cat", "/srv/lost").stdout == ""
    wait_until(lambda: reaches(machines["hub"], "node3"), "the hub reaches node3 again")


def test_a_power_cut_tells_no_peer_that_its_connection_is_gone(machines: Machines) -> None:
    hub, node = machines["hub"], machines["node1"]
    listen = "import socket,time; s=socket.create_server(('',7)); c,_=s.accept(); open('/run/met','w'); time.sleep(99)"
    connect = (
        "import socket; c=socket.create_connection(('node1',7)); c.settimeout(3)\n"
        "open('/run/met','w')\ntry: print(c.recv(1))\nexcept TimeoutError: print('silence')"
    )
    node.run("systemd-run", "--quiet", "python3", "-c", listen)
    wait_until(lambda: ":7 " in node.run("ss", "-Hltn") + " ", "somebody listens on node1")
    hub.run("systemd-run", "--quiet", "--unit=peer", "--remain-after-exit", "python3", "-c", connect)
    wait_until(lambda: node.attempt("test", "-e", "/run/met").returncode == 0, "they have met")
    node.power_cut()
    said = ("journalctl", "--unit=peer", "--output=cat", "--no-pager", "--identifier=python3")
    assert wait_until(lambda: hub.run(*said), "the peer has waited") == "silence\n"
    node.power_on()


def test_an_orderly_power_off_and_on(machines: Machines) -> None:
    node = machines["node3"]
    node.put("kept without fsync", "/srv/file")
    node.power_off()
    node.power_on()
    assert node.get("/srv/file") == "kept without fsync"


def test_a_fresh_machine_knows_nothing_of_before(machines: Machines) -> None:
    node = machines["node2"]
    identity = node.get("/etc/machine-id")
    node.put("gone", "/srv/file")
    node.fresh()
    assert node.attempt("test", "-e", "/srv/file").returncode == 1
    assert node.get("/etc/machine-id") != identity


def test_a_command_runs_as_whom_and_with_what_was_said(machines: Machines) -> None:
    node = machines["node1"]
    assert node.run("id", "-un", user="nobody") == "nobody\n"
    assert node.run("cat", stdin="words") == "words"
    assert node.run("sh", "-c", "exit 3", status=3) == ""
    node.put(b"#!/bin/sh\necho hello\n", "/opt/new/program", mode=0o755)
    assert node.run("/opt/new/program") == "hello\n"
    with pytest.raises(CommandError, match=r"node1: sh -c echo why >&2; exit 4: exit 4, not 0\nwhy"):
        node.run("sh", "-c", "echo why >&2; exit 4")


def test_a_command_that_does_not_end_is_ended(machines: Machines) -> None:
    node = machines["node1"]
    with pytest.raises(CommandError, match="did not end within 1 s"):
        node.run("sleep", "98765", timeout=1)
    wait_until(lambda: "98765" not in node.run("ps", "ax"), "the command has ended")


def test_a_story_has_the_journal_and_survives_the_machine(machines: Machines) -> None:
    node = machines["node1"]
    node.run("logger", "--priority=user.err", "something to tell")
    wait_until(lambda: "something to tell" in node.story(), "the journal has it")
    node.power_cut()
    assert "the machine is off" in node.story()
    node.power_on()


def test_nothing_is_left_of_machines_at_the_end(images: dict[Suite, Path]) -> None:
    directory = Path(tempfile.mkdtemp(prefix="nanoexec-lan-"))
    with Lan(directory) as lan:
        Machine(lan, "node1", images["trixie"]).power_on()
        assert len(left_over(directory.name)) > 3
    assert left_over(directory.name) == []


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_machines_whose_tests_were_ended(images: dict[Suite, Path], signal_: signal.Signals) -> None:
    directory = Path(tempfile.mkdtemp(prefix="nanoexec-lan-"))
    with subprocess.Popen(
        [sys.executable, "-c", BOOT, str(directory), str(images["trixie"])],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal_)
        process.wait(30)
    wait_until(lambda: left_over(directory.name) == [], "nothing is left")
