"""What a service says to systemd, over a real socket, and what it is handed, in a real process."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanoexec import systemd

pytestmark = pytest.mark.node


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end of ``NOTIFY_SOCKET``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listening:
        listening.bind(str(tmp_path / "notify"))
        yield listening


def test_a_state_reaches_the_service_manager(manager: socket.socket) -> None:
    systemd.notify("READY=1", {"NOTIFY_SOCKET": manager.getsockname()})
    assert manager.recv(100) == b"READY=1"


def test_an_abstract_socket_is_reached_too() -> None:
    name = f"nanoexec-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listening:
        listening.bind(f"\0{name}")
        systemd.notify("STOPPING=1", {"NOTIFY_SOCKET": f"@{name}"})
        assert listening.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("address", [None, "", "relative", "/nowhere/at/all", "@nobody-listens-here", "/" + "x" * 200])
def test_without_a_service_manager_nothing_happens(address: str | None) -> None:
    systemd.notify("READY=1", {} if address is None else {"NOTIFY_SOCKET": address})


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_bites(environ: dict[str, str], seconds: float | None) -> None:
    assert systemd.watchdog_interval(environ, pid=42) == seconds


def test_the_watchdog_is_fed_while_the_loop_turns(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)

    async def feed() -> list[bytes]:
        feeding = asyncio.create_task(systemd.keep_watchdog())
        heard = [await asyncio.get_running_loop().sock_recv(manager, 100) for _ in range(3)]
        feeding.cancel()
        return heard

    assert asyncio.run(asyncio.wait_for(feed(), 10)) == [b"WATCHDOG=1"] * 3


def test_nobody_is_fed_when_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    asyncio.run(asyncio.wait_for(systemd.keep_watchdog(), 10))


@pytest.mark.parametrize("environ", [{}, {"LISTEN_FDS": "1"}, {"LISTEN_FDS": "1", "LISTEN_PID": "43"}])
def test_sockets_for_another_process_are_left_alone(environ: dict[str, str]) -> None:
    assert systemd.passed_sockets(environ, pid=42) == []


def test_a_socket_that_was_handed_over_listens_and_is_not_handed_on(tmp_path: Path) -> None:
    """As sd_listen_fds(3) has it: from descriptor 3 on, for the process that LISTEN_PID names."""
    program = (
        "import os\n"
        "from nanoexec import systemd\n"
        "environ = {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'}\n"
        "(passed,) = systemd.passed_sockets(environ)\n"
        "print(passed.fileno(), passed.get_inheritable(), passed.getsockname())\n"
        "passed.accept()[0].sendall(b'hello')\n"
    )
    path = str(tmp_path / "runner.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        launch = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3)\n"
            "os.execv(sys.executable, [sys.executable, '-c', sys.argv[2]])"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", launch, str(listening.fileno()), program],
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[listening.fileno()],
        )
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(30)
                client.connect(path)
                assert client.recv(100) == b"hello"
            said, _ = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
    assert said == f"3 False {path}\n"
