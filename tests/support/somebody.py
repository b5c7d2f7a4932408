"""Being somebody else for a moment, where the tests run as root."""

import contextlib
import os
from collections.abc import Iterator

NOBODY = 65534


@contextlib.contextmanager
def acting_as_nobody() -> Iterator[None]:
    """This process without root's rights, its groups' included. What is imported meanwhile must be readable by all."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
