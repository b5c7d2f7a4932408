"""What a service says to systemd, over a real socket."""

import asyncio
import os
import socket
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


def test_systemd_runs_a_machine_that_has_its_directory(tmp_path: Path) -> None:
    assert systemd.booted(tmp_path)
    assert not systemd.booted(tmp_path / "system")
