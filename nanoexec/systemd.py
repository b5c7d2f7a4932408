"""What a service and systemd say to each other: sd_notify(3), sd_booted(3). Nothing happens without systemd."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path


def notify(state: str, environ: Mapping[str, str] = os.environ) -> None:
    """Tell the service manager, for example ``READY=1``. Silent when there is none, or it does not listen."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        try:
            connection.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            return  # a supervisor that went away is no reason to stop working


def watchdog_interval(environ: Mapping[str, str] = os.environ, pid: int | None = None) -> float | None:
    """Seconds between two ``WATCHDOG=1``: half of what systemd allows, or None when it does not watch this process."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    watched = environ.get("WATCHDOG_PID", "")
    if not microseconds.isdigit() or (watched and watched != str(os.getpid() if pid is None else pid)):
        return None
    return int(microseconds) / 2_000_000 or None


async def keep_watchdog() -> None:
    """Tell systemd again and again that the event loop still turns; returns at once when nobody watches."""
    import asyncio  # noqa: PLC0415 - the runner uses this module too, and has no event loop

    interval = watchdog_interval()
    while interval:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)


def booted(directory: Path = Path("/run/systemd/system")) -> bool:
    """Whether systemd runs this machine: sd_booted(3) looks for the same directory."""
    return directory.is_dir()
