"""Being somebody else for a moment, where the tests run as root."""

import contextlib
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

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


def as_user(uid: int, work: Callable[[], bool], cwd: Path = Path("/")) -> bool:
    """What ``work`` says in a child process that has become ``uid`` for good. It may not be able to import any more, or
    to find by their paths the files that the test has made: ``cwd`` is where it is nevertheless.

    Whatever comes of it, the child ends here. One that left by an exception would go on as a second pytest.
    """
    child = os.fork()
    if not child:
        status = 2
        try:
            os.chdir(cwd)
            os.setuid(uid)
            status = 0 if work() else 1
        except BaseException:  # noqa: BLE001 - also what pytest itself would raise
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, 1}, "the child has failed: its traceback is on standard error"
    return status == 0
