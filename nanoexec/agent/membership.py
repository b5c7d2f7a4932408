"""Whether this node has joined a hub, and whether it has joined anew: seen in the files that joining writes.

A node that has not joined is no fault: the agent waits for somebody who joins it. Looking is five calls of stat(2), so
that it may be done often, without inotify and what that would cost every agent.
"""

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from nanoexec import settings, systemd
from nanoexec.agent.identity import Identity, read_identity
from nanoexec.config import Paths
from nanoexec.keys.credentials import CA_CERTIFICATE, NODE_CERTIFICATE, NODE_KEY

LOOK_EVERY: Final = 2.0  # seconds
NOT_JOINED: Final = "not joined: waiting for `nanoexec agent join HUB:PORT TOKEN`"
_log = logging.getLogger("nanoexec.agent")
Signature = tuple[tuple[int, int, int] | None, ...]  # of each file, None for one that is not there


def read_member(paths: Paths) -> Identity | None:
    """Who this node is, None before it has joined. Raises `ConfigError` and `IdentityError` for what is there and of no
    use.
    """
    joined = settings.read_agent(paths).hub is not None and None not in map(_status, _credentials(paths))
    return read_identity(paths) if joined else None


def written(paths: Paths) -> tuple[Path, ...]:
    """All that joining writes, ``joined.toml`` last."""
    return (*_credentials(paths), paths.joined)


def signature(files: Iterable[Path]) -> Signature:
    """What stat(2) says of them."""
    return tuple(_status(file) for file in files)


async def joined(paths: Paths) -> tuple[Identity, Signature]:
    """Who this node is, as soon as it has joined; says that it waits, if it does. The signature was taken before the
    files were read. Raises as `read_member`.
    """
    said = False
    before: object = None
    files = written(paths)
    while True:
        seen, config = signature(files), _status(paths.agent_config)
        if (seen, config) != before and (identity := read_member(paths)):
            return identity, seen
        if not said:
            said = True
            _log.info(NOT_JOINED)
            systemd.notify(f"READY=1\nSTATUS={NOT_JOINED}")
        before = seen, config
        await asyncio.sleep(LOOK_EVERY)


async def joined_anew(paths: Paths, since: Signature) -> None:
    """Return once the node has joined again after its files had the signature ``since``."""
    seen = since
    files = written(paths)
    while True:
        await asyncio.sleep(LOOK_EVERY)
        before, seen = seen, signature(files)
        if is_new(since, before, seen):
            return


def is_new(since: Signature, before: Signature, seen: Signature) -> bool:
    """Whether what is ``seen`` now, and was at the look ``before``, is another membership than that of ``since``.

    Joining writes one file after another: what still moves is not whole yet. An agent at work is not stopped because
    somebody has moved its key away; only ``joined.toml``, the last of them, may be missing.
    """
    return seen == before != since and None not in seen[:-1]


def _credentials(paths: Paths) -> tuple[Path, ...]:
    return tuple(paths.agent_state / name for name in (NODE_KEY, CA_CERTIFICATE, NODE_CERTIFICATE))


def _status(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    except OSError as error:  # reading it will say what is wrong
        return (error.errno or 0, 0, 0)
    return (status.st_ino, status.st_size, status.st_mtime_ns)
