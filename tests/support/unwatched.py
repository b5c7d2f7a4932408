"""A connection of NNG's in this process whose end NNG does not hear of, as it happens to it by itself now and then."""

import contextlib
import os
import re
import select
from pathlib import Path

from nanoexec.transport.nng import sockets


def unwatch(port: int) -> None:
    """Take the connection that is up at this local port out of every epoll(7) that watches it."""
    found = sockets.connection(port)
    assert found, f"no connection at port {port}"
    watchers = [one for one in _epolls() if found.descriptor in _watched(one)]
    assert watchers, "nobody watches it"
    for one in watchers:
        with contextlib.closing(select.epoll.fromfd(os.dup(one))) as poll:
            poll.unregister(found.descriptor)


def _epolls() -> list[int]:
    found = []
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            if file.readlink().name == "anon_inode:[eventpoll]":
                found.append(int(file.name))
    return found


def _watched(epoll: int) -> set[int]:
    """The descriptors that it watches: proc(5), ``fdinfo``."""
    text = Path(f"/proc/self/fdinfo/{epoll}").read_text()
    return {int(number) for number in re.findall(r"^tfd: *(\d+)", text, re.MULTILINE)}
