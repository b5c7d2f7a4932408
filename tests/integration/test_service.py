"""What the machine and its people see: service manager, socket permissions, terminal, pipe, Ctrl-C."""

import fcntl
import grp
import json
import os
import pty
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanoexec.config import Paths
from tests.support.fleet import Fleet, Service, fleet_of, outcomes, wait_until, whoami
from tests.support.somebody import NOBODY, dropping_to

pytestmark = pytest.mark.timeout(180)

COLUMNS = 80
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*[1-9][0-9;]*m")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Two nodes. ``mixed`` is slow on web2; every start and end is written where nanoexec does not look."""
    with fleet_of("web1", "web2") as running:
        for name, node in running.nodes.items():
            for action, seconds in (("hello", 0.0), ("three", 3.0), ("mixed", 1.5 * (name == "web2")), ("long", 60.0)):
                script = (
                    f"echo begin >> {node.root}/{action}; sleep {seconds}; echo end >> {node.root}/{action}; echo x"
                )
                node.action(action, f"command = ['/bin/sh', '-c', '{script}']\nuser = '{whoami()}'\n")
        yield running


def noted(fleet: Fleet, node: str, action: str) -> list[str]:
    ledger = fleet.nodes[node].root / action
    return ledger.read_text().split() if ledger.exists() else []


def command(fleet: Fleet, *words: str) -> list[str]:
    return [sys.executable, "-m", "nanoexec", words[0], "--root", str(fleet.root), *words[1:]]


def terminal(**more: str) -> dict[str, str]:
    plain = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "COLUMNS", "LINES", "CI"}}
    return plain | {"TERM": "xterm"} | more


# The service manager


def told(receiver: socket.socket, wanted: str) -> list[str]:
    """What the service manager hears up to and with ``wanted``."""
    heard: list[str] = []
    while wanted not in heard:
        heard += receiver.recv(4096).decode().splitlines()
    return heard


def watched(service: Service, directory: Path) -> None:
    """Start a service under a service manager, see it live, end it, see it go."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(20)
        path = str(directory / "notify")
        receiver.bind(path)
        service.start(NOTIFY_SOCKET=path, WATCHDOG_USEC="200000")
        assert told(receiver, "READY=1").count("READY=1") == 1
        began = time.monotonic()
        for _ in range(3):
            told(receiver, "WATCHDOG=1")
        assert time.monotonic() - began < 5, "twice as often as the limit of 0.2 s"
        began = time.monotonic()
        assert service.process is not None
        service.process.send_signal(signal.SIGTERM)
        told(receiver, "STOPPING=1")  # read all the while: a full queue would hold up whoever writes to it
        assert service.process.wait(10) == 0
        assert time.monotonic() - began < 3
        Path(path).unlink()


def test_hub_and_agent_tell_the_service_manager_when_they_are_ready_alive_and_stopping() -> None:
    with fleet_of("web1") as fleet:
        node = fleet.nodes["web1"]
        node.agent.stop()
        watched(node.agent, fleet.directory)
        fleet.hub.stop()
        watched(fleet.hub, fleet.directory)
        assert "Traceback" not in node.agent.text() + fleet.hub.text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_daemon_ends_with_0_and_at_once(fleet: Fleet, number: signal.Signals) -> None:
    nodes = fleet.nodes.values()
    services = [*(node.agent for node in nodes), *(node.runner for node in nodes), fleet.hub]
    for service in services:
        began = time.monotonic()
        assert service.stop(number) == 0
        assert time.monotonic() - began < 3, service.words
    assert "Traceback" not in "".join(service.text() for service in services)
    fleet.start_hub()
    for node in nodes:
        node.start()
    fleet.wait_connected(*fleet.nodes)


# Who may ask the hub


def somebody(group: str | None) -> list[str]:
    """What makes a command run as nobody, in this group at most."""
    return dropping_to(NOBODY, grp.getgrnam(group).gr_gid if group else NOBODY)


@needs_root
def test_the_control_socket_is_for_root_and_the_operators_and_says_who_asked() -> None:
    group = "daemon"
    with fleet_of("web1", operators=group) as fleet:
        path = Paths(root=fleet.root).control_socket
        status = path.stat()
        assert stat.S_IMODE(status.st_mode) == 0o660
        assert (status.st_uid, status.st_gid) == (os.geteuid(), grp.getgrnam(group).gr_gid)

        fleet.directory.chmod(0o755)
        ask = command(fleet, "trigger", "ALL:uptime")
        stranger = subprocess.run([*somebody(None), *ask], capture_output=True, text=True, check=False, cwd="/")
        assert (stranger.returncode, stranger.stdout) == (6, "")
        assert f"you may not use the hub's control socket: root and the group {group} may" in stranger.stderr
        operator = subprocess.run([*somebody(group), *ask], capture_output=True, text=True, check=False, cwd="/")
        assert operator.returncode == 0, operator.stderr
        fleet.trigger("ALL:uptime")
        assert [entry["by"] for entry in fleet.history()] == ["root", "nobody"]


# Terminal and pipe


def on_a_terminal(words: list[str], **environment: str) -> tuple[int, str]:
    """Run a command on a terminal of 80 columns; its exit status, and every byte that it wrote."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, COLUMNS, 0, 0))
    with subprocess.Popen(
        words, stdin=slave, stdout=slave, stderr=slave, env=terminal(**environment), start_new_session=True
    ) as process:
        os.close(slave)
        written = b""
        try:
            while chunk := os.read(master, 65536):
                written += chunk
        except OSError:  # on Linux a terminal whose last user has gone gives EIO
            pass
        finally:
            os.close(master)
    return process.returncode, written.decode()


def shown_lines(written: str) -> list[str]:
    """What stood in each line at any time."""
    return re.split(r"[\r\n]+", ESCAPE.sub("", written))


def test_a_terminal_shows_progress_in_colour_and_never_wraps(fleet: Fleet) -> None:
    status, written = on_a_terminal(command(fleet, "trigger", "ALL:mixed"))
    assert status == 0, written
    lines = shown_lines(written)
    assert [line for line in lines if len(line) > COLUMNS] == []
    assert any(re.match(r"mixed .* 1/2 ", line) for line in lines), "one of two has ended"
    assert COLOUR.search(written)
    assert "mixed" in lines[-2]
    assert "2 succeeded" in lines[-2]


def test_no_color_leaves_no_colour_on_a_terminal(fleet: Fleet) -> None:
    status, written = on_a_terminal(command(fleet, "trigger", "ALL:mixed"), NO_COLOR="1")
    assert status == 0, written
    assert COLOUR.search(written) is None, repr(written)
    assert "1/2" in written, "the progress is still there"


def test_a_pipe_gets_results_and_a_summary_and_no_escapes(fleet: Fleet) -> None:
    words = command(fleet, "trigger", "ALL:hello")
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=terminal())
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    assert re.fullmatch(r"web\[1-2\] \(2\)  succeeded  \S+( to \S+)?\n    x\n", done.stdout)
    assert re.fullmatch(r"hello \w{16}: 2 succeeded\n", done.stderr)


def test_jsonl_gives_a_line_for_each_node_as_soon_as_it_has_ended(fleet: Fleet) -> None:
    before = noted(fleet, "web2", "mixed").count("end")
    words = command(fleet, "trigger", "ALL:mixed", "-o", "jsonl")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=terminal()) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert noted(fleet, "web2", "mixed").count("end") == before, "the slow one is still at work"
        rest = [json.loads(line) for line in process.stdout]
    assert process.returncode == 0
    assert [delivery["node"] for delivery in (first, *rest)] == ["web1", "web2"]
    assert {delivery["run"]["outcome"] for delivery in (first, *rest)} == {"succeeded"}


# Waiting, and not


def test_ctrl_c_stops_waiting_says_what_goes_on_and_leaves_it_going(fleet: Fleet) -> None:
    words = command(fleet, "trigger", "ALL:three")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=terminal()) as process:
        wait_until(
            lambda: [entry["state"] for entry in fleet.history("--action", "three")] == ["running"] * 2, "both run"
        )
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=10)
    assert process.returncode == 130
    assert out == ""
    lines = said.splitlines()
    assert lines[0] == "still running on web[1-2]"
    found = re.fullmatch(
        r"stopped waiting; the runs go on: `nanoexec show (\w{16})` looks again, `nanoexec cancel \1` stops them",
        lines[1],
    )
    assert found
    assert len(lines) == 2
    for node in fleet.nodes:
        assert fleet.wait_state(found[1], node, "finished")["run"]["outcome"] == "succeeded"
        assert noted(fleet, node, "three") == ["begin", "end"]
    shown = fleet.run("show", found[1])
    assert "web[1-2] (2)  succeeded" in shown.stdout


def test_no_wait_gives_an_id_to_look_at_later(fleet: Fleet) -> None:
    done = fleet.run("trigger", "ALL:hello", "--no-wait", "--expires", "90s")
    accepted = re.fullmatch(r"trigger (\w{16}) accepted for 2 nodes\n", done.stdout)
    assert accepted
    assert f"`nanoexec show {accepted[1]}` shows the results" in done.stderr
    for node in fleet.nodes:
        fleet.wait_state(accepted[1], node, "finished")
    detail = json.loads(fleet.run("show", accepted[1], "-o", "json").stdout)
    assert detail["expires"] - detail["issued"] == pytest.approx(90)
    assert fleet.run("show", accepted[1][:10]).stdout.startswith(accepted[1])


def test_a_timeout_that_the_operator_sets_ends_the_run_and_fails_the_trigger(fleet: Fleet) -> None:
    began = time.monotonic()
    deliveries = fleet.trigger("ALL:long", "--timeout", "0.5s", status=3)
    assert outcomes(deliveries) == {"web1": "timed-out", "web2": "timed-out"}
    assert time.monotonic() - began < 30
    assert {node: noted(fleet, node, "long") for node in fleet.nodes} == {"web1": ["begin"], "web2": ["begin"]}
