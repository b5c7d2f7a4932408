"""Kill an operation at each of its system calls in turn: ``python -m tests.support.crash OPERATION DIRECTORY``.

For each call of `os` that changes something, a child of this process does the operation in a directory of its own and
kills itself (SIGKILL) right before that call, another right after it; a write is also cut in half. The directories stay
for the caller to look at: ``DIRECTORY/<call>-<when>``. Ends once a child has come through.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.crontabs import NOW, SLAUGHTER, Machine

CALLS = (
    "open",
    "write",
    "fsync",
    "rename",
    "replace",
    "unlink",
    "fchmod",
    "fchown",
    "setxattr",
    "utime",
    "mkdir",
    "close",
)
WHENS = ("before", "after", "half")
OTHER = b"@daily root puppet agent -t\n"
MOST = 400  # calls; far more than any operation needs
_INTERRUPTED = 9


def adopt(machine: Machine) -> None:
    """Take both lines over."""
    machine.adopt()


def restore(machine: Machine) -> None:
    """Give both lines back."""
    machine.restore()


OPERATIONS: dict[str, Callable[[Machine], None]] = {"adopt": adopt, "restore": restore}


def prepare(operation: str, root: Path) -> Machine:
    """A machine with a system crontab and a user's, as they are before the operation."""
    machine = Machine(root)
    machine.write("etc/crontab", b"# \xe9\n" + SLAUGHTER + OTHER)
    machine.user("root", b"17 * * * * /sbin/slaughter\n")
    if operation == "restore":
        machine.adopt(now=NOW - 60)
    return machine


def _kill_at(number: int, when: str) -> None:
    """Replace the calls by ones that count, and kill at the ``number``-th."""
    count = 0

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            nonlocal count
            count += 1
            if count != number:
                return real(*given, **more)
            if when == "half" and name == "write":
                real(given[0], bytes(given[1])[: len(given[1]) // 2])
            with suppress(OSError):  # a call that fails is a point like any other
                if when == "after":
                    real(*given, **more)
            os.kill(os.getpid(), signal.SIGKILL)
            return None

        return call

    for name in CALLS:
        setattr(os, name, wrapped(name, getattr(os, name)))


def main(operation: str, directory: Path) -> None:
    """Go through all calls."""
    for number in range(1, MOST):
        for when in WHENS:
            root = directory / f"{number}-{when}"
            root.mkdir(parents=True)
            machine = prepare(operation, root)
            pid = os.fork()
            if pid == 0:
                _kill_at(number, when)
                OPERATIONS[operation](machine)
                os._exit(0)
            status = os.waitpid(pid, 0)[1]
            if os.WIFSIGNALED(status) and os.WTERMSIG(status) == _INTERRUPTED:
                continue
            if status != 0:
                raise SystemExit(f"{root}: the operation failed by itself: {status}")
            sys.stdout.write(f"{number - 1}\n")
            return
    raise SystemExit("the operation never came to its end")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
