"""``nanoexec listen`` and ``nanoexec send``, as commands, against each other."""

import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nanoexec.errors import ExitCode
from tests.support.command_line import ENVIRONMENT, command

pytestmark = pytest.mark.node

DEADLINE = 30.0
ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Listening:
    """A listener's process and what it has said."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self.log = log

    def wait_for(self, text: str) -> str:
        deadline = time.monotonic() + DEADLINE
        while text not in self.log.read_text():
            assert time.monotonic() < deadline, f"{text!r} never came in {self.log.read_text()!r}"
            time.sleep(0.02)
        return self.log.read_text()


@contextmanager
def listening(root: Path, port: int, *options: str) -> Iterator[Listening]:
    log = root / "listen.log"
    words = command(root, "listen", f"tcp://127.0.0.1:{port}", *options)
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, env=ENVIRONMENT)
    try:
        yield Listening(process, log)
    finally:
        process.kill()
        process.wait()


def send(port: int, message: str, *options: str) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-P", "-m", "nanoexec", "send", "--listen", f"tcp://*:{port}", message, *options]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=ENVIRONMENT)


def action(root: Path, name: str, text: str) -> None:
    file = root / f"etc/nanoexec/actions.d/{name}.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'name = "{name}"\n{text}')


def test_a_frame_runs_the_action_of_its_name_and_is_journaled(tmp_path: Path, port: int) -> None:
    action(tmp_path, "work", f'command = ["/bin/echo", "worked"]\nuser = "{ME}"\n')
    with listening(tmp_path, port, "--hostname", "web1", "--verbose") as listener:
        said = listener.wait_for("WARNING")
        assert said.startswith("Filtering on hostname: web1\n")
        sent = send(port, "web1:work", "--within", "20s")
        assert (sent.returncode, sent.stdout) == (0, "sent to 1 subscriber\n")
        listener.wait_for("worked")
        listener.wait_for("ended: exit status 0")
        assert (tmp_path / "var/lib/nanoexec/journal/journal.db").exists()
        listener.process.send_signal(signal.SIGTERM)
        assert listener.process.wait(DEADLINE) == 0


def test_a_shell_command_is_refused_unless_it_was_allowed(tmp_path: Path, port: int) -> None:
    with listening(tmp_path, port, "--hostname", "web1") as listener:
        assert send(port, "ALL:echo $((6*7))", "--within", "20s").returncode == 0
        listener.wait_for("shell commands are off")
    with listening(tmp_path, port, "--hostname", "web1", "--allow-exec") as listener:
        assert send(port, "ALL:echo $((6*7))", "--within", "20s").returncode == 0
        listener.wait_for("42\n")


def test_an_action_with_a_fault_never_falls_through_to_the_shell(tmp_path: Path, port: int) -> None:
    action(tmp_path, "true", "command = 7\n")
    with listening(tmp_path, port, "--hostname", "web1", "--allow-exec", "--verbose") as listener:
        assert send(port, "ALL:true", "--within", "20s").returncode == 0
        said = listener.wait_for("not run")
        assert "faulty manifest" in said
        assert "exit status" not in said


def test_what_nobody_came_for_is_not_sent_and_said(port: int) -> None:
    done = send(port, "ALL:uptime", "--within", "0.2")
    assert (done.returncode, done.stdout) == (ExitCode.UNABLE, "")
    assert "nobody came to " in done.stderr
