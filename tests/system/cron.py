"""A machine's own cron daemon at speed: a minute of its clock takes three seconds, its children have the real time."""

import contextlib
from collections.abc import Iterator
from typing import Final

from tests.system.machines import Machine

SPEED: Final = 20
DROP_IN: Final = "/run/systemd/system/cron.service.d"
# Only the daemon is told: the environment of what it starts is made from nothing.
FASTER: Final = f"""\
[Service]
Environment=LD_PRELOAD=%s FAKETIME_DONT_FAKE_MONOTONIC=1 "FAKETIME=+0 x{SPEED}"
"""


def faketime(machine: Machine) -> str:
    """Where the library is that gives a process another clock."""
    return machine.run("sh", "-c", "echo /usr/lib/*/faketime/libfaketime.so.1").strip()


@contextlib.contextmanager
def fast_cron(machine: Machine) -> Iterator[None]:
    """Restart the cron daemon with a faster clock; afterwards it is as it was, running or not."""
    ran = machine.attempt("systemctl", "is-active", "--quiet", "cron.service").returncode == 0
    machine.put(FASTER % faketime(machine), f"{DROP_IN}/speed.conf")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "cron.service")
    try:
        yield
    finally:
        machine.run("rm", "-r", DROP_IN)
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart" if ran else "stop", "cron.service")
