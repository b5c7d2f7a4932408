"""What the units promise: an agent that can do next to nothing, a runner without a network, and runs like cron's."""

import json
import re
from typing import Any, Final

import pytest

from tests.support.fleet import wait_until
from tests.system.cron import fast_cron
from tests.system.estate import PATIENCE, Estate, outcomes
from tests.system.machines import Machine

SUITES: Final = pytest.mark.parametrize("name", ["node1", "node2"], ids=["bookworm", "trixie"])
AGENT: Final = "nanoexec-agent.service"
RUNNER: Final = "nanoexec-runner.service"
ENOUGH: Final = 2.5  # of ten, as `systemd-analyze security` counts exposure
# Each thing that somebody might do who has taken the agent over. Says of each "done", or why not.
PROBE: Final = """
import json, os, socket, subprocess, sys

def write(path):
    with open(path, "w"):
        os.unlink(path)

def listen(family, where):
    with socket.socket(family) as one:
        one.bind(where)
        one.listen()

def execute(path):
    done = subprocess.run([path, "-u"], stdout=subprocess.PIPE, check=True)
    return "root" if done.stdout == b"0\\n" else "powerless"

acts = {
    "read /etc/shadow": lambda: open("/etc/shadow").close(),
    "write to its state": lambda: write("/var/lib/nanoexec/agent/probe"),
    "write to /srv/open": lambda: write("/srv/open/probe"),
    "write to /tmp": lambda: write("/tmp/probe"),
    "write to /var/tmp": lambda: write("/var/tmp/probe"),
    "write to /dev/shm": lambda: write("/dev/shm/probe"),
    "listen on a port": lambda: listen(socket.AF_INET, ("0.0.0.0", 4999)),
    "listen on a port, IPv6": lambda: listen(socket.AF_INET6, ("::", 4998)),
    "listen on a local socket": lambda: listen(socket.AF_UNIX, "\\0probe"),
    "execute a setuid program": lambda: execute("/usr/local/bin/become-root"),
    "execute one among libraries": lambda: execute("/usr/lib/probe/become-root"),
}
told = {}
for what, act in acts.items():
    try:
        told[what] = act() or "done"
    except OSError as error:
        told[what] = error.strerror
with open("/var/lib/nanoexec/agent/told.json", "w") as file:
    json.dump(told, file)
"""
# Of the unit, everything stays but what is executed, and that it ends.
INSTEAD: Final = """[Service]
Type=oneshot
Restart=no
ExecStart=
ExecStart=/usr/bin/python3 -sP /srv/probe.py
"""
TOLD: Final = "/var/lib/nanoexec/agent/told.json"
# Where a process is: everything that it has from who started it, but for its number and its control group.
PLACE: Final = r"""#!/bin/sh
exec 2>&1
grep -E '^(Umask|Uid|Gid|Groups|Sig(Blk|Ign)|Cap|NoNewPrivs|Seccomp|Speculation|Cpus_allowed_list)' /proc/self/status
cat /proc/self/limits /proc/self/oom_score_adj /proc/self/coredump_filter
readlink /proc/self/root /proc/self/ns/*
cat /proc/self/mountinfo
nice
"""
# What a control group of systemd's may limit or take away.
RESOURCES: Final = re.compile(r"(Allowed|BlockIO|CPU|Delegate|Device|IO|IP|Memory|Slice|Socket|StartupCPU|Swap|Tasks)")
COUNTERS: Final = re.compile(r"(NSec|Current|Peak|Bytes|Operations|Packets)$")
PLACED: Final = """\
name = "place"
command = ["/usr/local/bin/place"]
"""
TALK: Final = """\
name = "talk"
command = ["/usr/bin/python3", "-IS", "-c", "import socket; socket.socket().close()"]
user = "nobody"
"""
TRACED: Final = """[Service]
ExecStart=
ExecStart=/usr/bin/strace -D -f -qq -e trace=socket,execve -o /srv/trace /usr/bin/python3 -sP -m nanoexec.runner
"""
CONNECT: Final = "import socket; socket.socket(socket.AF_UNIX).connect('/run/nanoexec/runner.sock')"


def settings(node: Machine, unit: str) -> dict[str, str]:
    """Everything that systemd knows of a unit that is stopped; lists, which have no order, sorted."""
    lines = node.run("systemctl", "show", unit).splitlines()
    known = {key: " ".join(sorted(value.split())) for key, _, value in (line.partition("=") for line in lines)}
    return {key: value for key, value in known.items() if key != "ControlGroupId"}


def put_instead(node: Machine, unit: str, content: str) -> None:
    """Lay a drop-in over a unit; it lasts until the next boot."""
    node.put(content, f"/run/systemd/system/{unit}.d/instead.conf")
    node.run("systemctl", "daemon-reload")


def take_back(node: Machine, unit: str) -> None:
    """Take the drop-in away, and stop what ran with it."""
    node.run("systemctl", "stop", unit)
    node.run("rm", "-r", f"/run/systemd/system/{unit}.d")
    node.run("systemctl", "daemon-reload")


def told(node: Machine) -> dict[str, str]:
    """What the probe has written, which is then gone."""
    found: dict[str, str] = json.loads(node.get(TOLD))
    node.run("rm", TOLD)
    return found


@pytest.fixture
def probed(estate: Estate, name: str) -> Machine:
    """A node with everything that the probe tries."""
    node = estate.nodes[name]
    node.put(PROBE, "/srv/probe.py")
    script = """
        install -d -m 1777 /srv/open
        install -D -m 4755 /usr/bin/id /usr/local/bin/become-root
        install -D -m 4755 /usr/bin/id /usr/lib/probe/become-root
    """
    node.run("sh", "-euc", script)
    return node


@SUITES
def test_in_the_place_of_the_agent_nothing_can_be_done_that_it_need_not_do(probed: Machine) -> None:
    node = probed
    node.run("systemctl", "stop", AGENT)
    before = settings(node, AGENT)
    assert before["User"] == "nanoexec"
    put_instead(node, AGENT, INSTEAD)
    try:
        after = settings(node, AGENT)
        differs = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        assert differs <= {"Type", "Restart", "ExecStart", "ExecStartEx", "DropInPaths", "TimeoutStartUSec"}
        node.run("systemctl", "start", AGENT)
    finally:
        take_back(node, AGENT)
        node.run("systemctl", "start", AGENT)
    found = told(node)
    assert found.pop("write to its state") == "done"
    assert found.pop("execute one among libraries") == "powerless"
    assert {what: why for what, why in found.items() if why in {"done", "root", "powerless"}} == {}
    assert len(found) == 9


@SUITES
def test_the_same_can_be_done_where_the_unit_does_not_forbid_it(probed: Machine) -> None:
    run = ["systemd-run", "--quiet", "--wait", "--property=User=%s", "/usr/bin/python3", "-sP", "/srv/probe.py"]
    probed.run(*(word.replace("%s", "nanoexec") for word in run))
    found = told(probed)
    assert found.pop("read /etc/shadow") == "Permission denied"  # files have modes, too
    root = {what: found.pop(what) for what in tuple(found) if what.startswith("execute")}
    assert set(root.values()) == {"root"}
    assert set(found.values()) == {"done"}
    probed.run(*(word.replace("%s", "root") for word in run))
    assert told(probed)["read /etc/shadow"] == "done"


@SUITES
def test_systemd_finds_little_exposure_in_agent_and_hub(estate: Estate, name: str) -> None:
    for machine, unit in ((estate.nodes[name], AGENT), (estate.hub, "nanoexec-hub.service")):
        said = machine.run("systemd-analyze", "--no-pager", "security", unit)
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
        assert found, said
        assert float(found[1]) <= ENOUGH, said


def families(trace: str) -> tuple[set[str], set[str]]:
    """Of a trace, the address families of the sockets of the runner's processes, and of those that it executed."""
    own: set[str] = set()
    executed: set[str] = set()
    strangers: set[str] = set()
    for line in trace.splitlines():
        pid, _, call = line.partition(" ")
        if call.lstrip().startswith("execve(") and "nanoexec.runner" not in call:
            strangers.add(pid)
        elif found := re.match(r"\s*socket\((\w+)", call):
            (executed if pid in strangers else own).add(found[1])
    return own, executed


@SUITES
def test_the_runner_has_no_network_socket_in_a_whole_run(estate: Estate, name: str) -> None:
    node = estate.nodes[name]
    node.put(TALK, "/etc/nanoexec/actions.d/talk.toml")
    node.run("systemctl", "stop", RUNNER)
    put_instead(node, RUNNER, TRACED)
    try:
        assert outcomes(estate.trigger(f"{name}:talk")) == {name: "succeeded"}
        node.run("systemctl", "stop", RUNNER)
        trace = wait_until(lambda: (said := node.get("/srv/trace")) and "AF_INET" in said and said, "the trace")
    finally:
        take_back(node, RUNNER)
    own, executed = families(trace)
    assert "nanoexec.runner" in trace
    assert "AF_INET" in executed  # it would have been seen
    assert own <= {"AF_UNIX"}, trace


@SUITES
def test_only_root_and_the_agent_reach_the_runner(estate: Estate, name: str) -> None:
    node = estate.nodes[name]
    for user, status in (("root", 0), ("nanoexec", 0), ("nobody", 1), ("daemon", 1)):
        done = node.attempt("python3", "-c", CONNECT, user=user)
        assert done.returncode == status, (user, done.stderr)
        assert status == 0 or "PermissionError" in done.stderr


def own_signals_aside(text: str) -> str:
    """The signals 32 and 33 are glibc's: its posix_spawn leaves them ignored, and whoever needs them sets them."""
    return re.sub(r"(?<=SigIgn:\t)[0-9a-f]+", lambda mask: f"{int(mask[0], 16) & ~(3 << 31):016x}", text)


@SUITES
def test_a_triggered_command_is_where_the_same_command_is_under_cron(estate: Estate, name: str) -> None:
    node = estate.nodes[name]
    node.put(PLACE, "/usr/local/bin/place", mode=0o755)
    node.put(PLACED, "/etc/nanoexec/actions.d/place.toml")
    deliveries: dict[str, Any] = estate.trigger(f"{name}:place")
    triggered = deliveries[name]["run"]["output"]["text"]
    node.put(
        "* * * * * root /usr/local/bin/place >/srv/place.new && mv /srv/place.new /srv/place\n", "/etc/cron.d/place"
    )
    with fast_cron(node):
        wait_until(lambda: node.attempt("test", "-s", "/srv/place").returncode == 0, "cron has run it", PATIENCE)
    node.run("rm", "/etc/cron.d/place")
    assert own_signals_aside(triggered) == own_signals_aside(node.get("/srv/place"))
    assert "CapBnd" in triggered
    assert "Max open files" in triggered
    assert " / / " in triggered


@SUITES
def test_the_runners_unit_takes_no_more_from_its_commands_than_crons_does(estate: Estate, name: str) -> None:
    node = estate.nodes[name]
    node.run("systemctl", "stop", RUNNER, "cron.service")
    ours, crons = settings(node, RUNNER), settings(node, "cron.service")
    node.run("systemctl", "start", "cron.service")
    limits = {key for key in ours if RESOURCES.match(key) and not COUNTERS.search(key)}
    assert {"TasksMax", "MemoryMax", "DevicePolicy", "CPUQuotaPerSecUSec"} <= limits
    assert {key: (ours[key], crons.get(key)) for key in limits if ours[key] != crons.get(key)} == {}
