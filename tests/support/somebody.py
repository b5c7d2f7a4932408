"""Being somebody else for a moment, where the tests run as root."""

import contextlib
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import nanoexec

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


def dropping_to(uid: int, gid: int) -> list[str]:
    """What to put before a command so that an ordinary user runs it.

    Where interpreter or checkout lie so that only root may look, one capability is left: to read and search, not to
    write. Without the secure bit access(2) would not know of it.
    """
    plain = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    # By way of env, since setpriv itself still has the right to look everywhere when it starts its command.
    look = [*plain, "env", f"PYTHONPATH={Path(nanoexec.__file__).parents[1]}", sys.executable, "-c", "import nanoexec"]
    if subprocess.run(look, cwd="/", capture_output=True, check=False).returncode == 0:
        return plain
    capability = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return [*plain, "--securebits=+no_setuid_fixup", *capability]
