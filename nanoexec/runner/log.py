"""One line for the service's log: systemd adds the time and the name, and a logging framework would cost every fork."""

import sys
from contextlib import suppress


def say(line: str) -> None:
    """Write a line to standard error. Whatever a peer put into it stays one line.

    A log that is closed, full or read by nobody takes no line, and must not change what becomes of a run.
    """
    with suppress(OSError, AttributeError):  # without a descriptor 2, Python has no sys.stderr
        sys.stderr.write(" ".join(line.split()) + "\n")
        sys.stderr.flush()
