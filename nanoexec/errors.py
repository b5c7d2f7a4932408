"""Every error that nanoexec raises on purpose, grouped by whose fault it is.

One root, one place that catches it (``nanoexec.cli``), one exit code each. The message is one line: it names the file,
key, node or frame at fault, says what was expected and, where that helps, what to do.
"""

import enum


class ExitCode(enum.IntEnum):
    """What the shell sees. The table is part of the interface: scripts depend on it."""

    OK = 0
    UNABLE = 1
    USAGE = 2
    RUN_FAILED = 3
    NO_ANSWER = 4
    NO_TARGET = 5
    REFUSED = 6
    INTERRUPTED = 130


class NanoexecError(Exception):
    """The root: something that a user can be told in one line."""

    exit_code = ExitCode.UNABLE


class UsageError(NanoexecError):
    """The operator asked for something that cannot be meant."""

    exit_code = ExitCode.USAGE


class TargetError(UsageError):
    """A target expression that cannot be read."""


class NoTargetError(NanoexecError):
    """A target that is well formed and matches no node."""

    exit_code = ExitCode.NO_TARGET


class RefusedError(NanoexecError):
    """Somebody with the right to say no said no: a node, or the hub."""

    exit_code = ExitCode.REFUSED


class ConfigError(NanoexecError):
    """A configuration file or manifest is at fault; the message names file and key."""


class IdentityError(NanoexecError):
    """A key, certificate or token is missing, unsafe, foreign or out of date."""


class ProtocolError(NanoexecError):
    """Bytes from a peer are not what the protocol allows; the message names the frame."""


class UnavailableError(NanoexecError):
    """A peer (hub, runner) cannot be reached, or went away."""


class StoreError(NanoexecError):
    """A database (the hub's store, the node's journal) cannot be used."""
