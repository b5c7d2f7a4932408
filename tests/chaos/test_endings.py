"""Nothing that the campaigns start outlives them, however they end."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.companion import Companion, with_tests
from tests.support import fleet as support
from tests.support.fleet import Fleet, FleetNode, Service, wait_until

ONCE = ["timeit", "-n", "1", "-r", "1"]  # a module that executes what it is given
DEAF = [*ONCE, "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"]
DAEMON = [*ONCE, "import time; print('ready', flush=True); time.sleep(600)"]
READER = [*ONCE, "import sys; print('ready', flush=True); sys.stdin.read()"]
# Starts one of each kind, tells their process ids once they are at work, and waits to be killed.
STARTER = f"""
import sys, time
from pathlib import Path
from tests.chaos.companion import Companion
from tests.support.fleet import Service, wait_until
service, companion = Service({DAEMON}, Path(sys.argv[1])), Companion(*{READER})
service.start()
wait_until(lambda: "ready" in service.text(), "it is there")
print(service.process.pid, companion.pid, companion.hear())
sys.stdout.flush()
time.sleep(600)
"""


def lives(pid: int) -> bool:
    """Whether a process is there, and not merely to be waited for."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def started(stack: ExitStack, log: Path, words: list[str]) -> Service:
    service = Service(words, log)
    stack.callback(service.kill)
    service.start()
    return service


def deaf(stack: ExitStack, log: Path) -> Service:
    """One that has been told to go on at SIGTERM."""
    service = started(stack, log, DEAF)
    assert service.process
    ignored = f"/proc/{service.process.pid}/status"
    bit = 1 << (signal.SIGTERM - 1)
    wait_until(lambda: int(Path(ignored).read_text().split("SigIgn:")[1].split()[0], 16) & bit, "it is deaf")
    return service


def test_a_service_that_was_stopped_ends_when_it_is_told_to(stack: ExitStack, tmp_path: Path) -> None:
    service = started(stack, tmp_path / "log", DAEMON)
    wait_until(lambda: "ready" in service.text(), "it is there")
    process = service.process
    assert process
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "it stands")
    assert service.stop() == -signal.SIGTERM


def test_a_fleet_ends_all_of_its_services_though_one_hears_nothing(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "ENDING", 0.2)
    fleet = Fleet()
    fleet.hub = deaf(stack, tmp_path / "hub.log")
    fleet.nodes["web1"] = node = FleetNode(fleet, "web1")
    node.agent, node.runner = (deaf(stack, tmp_path / name) for name in ("agent.log", "runner.log"))
    pids = [service.process.pid for service in (fleet.hub, node.agent, node.runner) if service.process]
    with pytest.raises(AssertionError, match="did not end at SIGTERM"):
        fleet.__exit__(None, None, None)
    assert [pid for pid in pids if lives(pid)] == []
    assert not fleet.directory.exists()


def test_a_service_that_hears_nothing_does_not_hide_why_the_test_has_failed(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(support, "ENDING", 0.2)
    fleet = Fleet()
    fleet.hub = deaf(stack, tmp_path / "hub.log")
    fleet.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert "did not end at SIGTERM" in capsys.readouterr().out


def test_services_and_companions_end_with_their_tests_even_if_these_are_killed(tmp_path: Path) -> None:
    words = [sys.executable, "-c", STARTER, str(tmp_path / "log")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=with_tests()) as starter:
        try:
            assert starter.stdout
            pids = [int(word) for word in starter.stdout.readline().split()[:2]]
            assert [lives(pid) for pid in pids] == [True, True]
        finally:
            starter.kill()
    wait_until(lambda: not any(lives(pid) for pid in pids), f"{pids} end")


def test_a_companion_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.chaos.companion.ENDING", 0.2)
    companion = Companion(*DEAF)
    with pytest.raises(subprocess.TimeoutExpired):
        companion.end()
    assert not lives(companion.pid)
