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
    """Hold ``hub.lock`` in ``state``, which must be there. Raises `UnavailableError` while another process does."""
    descriptor = os.open(state / "hub.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        give_to_owner_of(state, descriptor)  # root restores for the hub's own account
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnavailableError(f"{state}: another hub is already running on this directory") from None
        yield
    finally:
        os.close(descriptor)
