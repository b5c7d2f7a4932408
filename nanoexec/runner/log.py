"""One line for the service's log: systemd adds the time and the name, and a logging framework would cost every fork."""

import sys


def say(line: str) -> None:
    """Write a line to standard error. Whatever a peer put into it stays one line."""
    sys.stderr.write(" ".join(line.split()) + "\n")
    sys.stderr.flush()
