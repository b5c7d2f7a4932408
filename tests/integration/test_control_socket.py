"""Those who ask the hub and then behave badly, and answers at their limits: real processes, the real socket."""

import contextlib
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from nanoexec.config import Paths
from nanoexec.wire import control, stream
from tests.support.fleet import Fleet, assert_one_line, fleet_of, wait_until, whoami

pytestmark = pytest.mark.timeout(180)
MUCH = 500_000  # bytes: more than a socket takes from the hub while nobody reads


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with fleet_of("web1") as running:
        node = running.nodes["web1"]
        for name, script in (("much", f"head -c {MUCH} /dev/zero | tr '\\0' x"), ("long", "sleep 60")):
            node.action(name, f"command = ['/bin/sh', '-c', \"\"\"{script}\"\"\"]\nuser = '{whoami()}'\n")
        node.stop()
        node.set(output_limit=512 << 10)
        node.start()
        running.wait_connected("web1")
        yield running


@contextlib.contextmanager
def deaf(fleet: Fleet, request: control.Request) -> Iterator[None]:
    """Somebody asks, and never reads a byte of what is answered."""
    with socket.socket(socket.AF_UNIX) as asker:
        asker.connect(str(Paths(root=fleet.root).control_socket))
        asker.sendall(stream.encode(request))
        yield


def submit(target: str) -> control.Submit:
    name, action = target.split(":")
    return control.Submit(wanted=control.Wanted(target=name, action=action, lifetime=60.0))


def test_a_hub_stops_at_once_though_somebody_watches_and_never_reads(fleet: Fleet) -> None:
    with deaf(fleet, submit("web1:much")), deaf(fleet, submit("web1:long")):
        wait_until(lambda: {e["action"] for e in fleet.history()} == {"much", "long"}, "both are known")
        wait_until(lambda: fleet.history("--action", "much")[0]["outcome"], "the news of it has been told")
        began = time.monotonic()
        assert fleet.hub.stop(signal.SIGTERM) == 0
        assert time.monotonic() - began < 5
    assert "Traceback" not in fleet.hub.text()
    fleet.start_hub()
    fleet.wait_connected("web1")


def test_a_no_of_any_length_arrives_with_its_exit_status(fleet: Fleet) -> None:
    strangers = ",".join(f"host{number}x{number}.some.example.org" for number in range(400))
    assert_one_line(fleet.run("trigger", f"{strangers}:uptime", check=False), 5, "matches no node: not on the roster: ")
