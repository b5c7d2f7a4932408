"""One line for the service's log: systemd adds the time and the name, and a logging framework would cost every fork."""

import sys
from contextlib import suppress


def say(line: str) -> None:
    """Write a line to standard error. Whatever a peer put into it stays one line.

    A log that is closed, on a full disk or left by its reader takes no line, and that must not change what becomes of a
    run. One whose reader is there and does not read holds us up, once its pipe is full.
    """
    if sys.stderr is not None:  # there is none without a descriptor 2
        with suppress(OSError):
            sys.stderr.write(" ".join(line.split()) + "\n")
            sys.stderr.flush()
