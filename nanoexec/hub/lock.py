"""One hub per state directory, and nobody replaces the state under a hub that runs."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nanoexec.errors import UnavailableError
from nanoexec.files import give_to_owner_of


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Hold ``hub.lock`` in ``state``, which must be there. Raises `UnavailableError` while another process does, or if
    this user may not.

    Root restores in a directory of the hub's account, and gives it the file: never one that a link leads to.
    """
    file = state / "hub.lock"
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UnavailableError(f"{file}: cannot be opened: {error.strerror or error}") from None
    try:
        give_to_owner_of(state, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnavailableError(
                f"{state}: another hub is already running on this directory: stop it first"
            ) from None
        yield
    finally:
        os.close(descriptor)
