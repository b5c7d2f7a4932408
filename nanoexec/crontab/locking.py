"""One nanoexec at a time changes crontabs."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from nanoexec.config import Paths
from nanoexec.errors import ConfigError


@contextmanager
def locked(paths: Paths) -> Iterator[None]:
    """Hold the lock of crontabs. Raises `ConfigError` when another process does, or when it cannot be made.

    Nobody is waited for: whoever was first changes what this one has read.
    """
    file = paths.run / "crontabs.lock"
    try:
        paths.run.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigError(f"{file}: cannot lock the crontabs: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{file}: another nanoexec is changing crontabs: try again when it is done") from None
        yield
    finally:
        os.close(descriptor)
