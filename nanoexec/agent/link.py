"""What the agent leaves for others to read: whether its link to the hub is up, since when, and when it last heard it.

The file of the link is written when that changes, so that it costs nothing meanwhile. An agent that was killed leaves
what it wrote last: a reader asks whether the process that is named in it still lives.
"""

from pathlib import Path

import msgspec

from nanoexec.errors import NanoexecError
from nanoexec.files import read_regular, write_atomically
from nanoexec.model import Value
from nanoexec.runner.process import Process, boot_id, lives


class LinkState(Value, frozen=True):
    """``up``: the hub has welcomed this agent. ``since`` is the node's clock, ``why`` what keeps a link down."""

    up: bool
    since: float
    agent: Process
    why: str = ""


def write(file: Path, state: LinkState) -> None:
    """Raises `ConfigError`."""
    write_atomically(file, msgspec.json.encode(state), 0o644)


def read(file: Path) -> LinkState | None:
    """What was written last; None if there is nothing, or nothing that can be read.

    Raises `NanoexecError` when this user may not see it.
    """
    try:
        return msgspec.json.decode(read_regular(file), type=LinkState)
    except PermissionError:
        raise NanoexecError(f"{file}: this user may not read it") from None
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError):
        return None


def runs(agent: Process) -> bool:
    """Whether the agent that a `LinkState` names still runs. Raises `OSError`.

    By pid and start alone: where systemd gives its sandbox a /proc of its own, an agent in a container sees the boot id
    of the machine outside, and whoever looks that of the container.
    """
    return lives(msgspec.structs.replace(agent, boot=boot_id()))


def heard(beacon: Path) -> float | None:
    """When the agent last heard the hub, by the time of its file for that; None if never.

    Raises `NanoexecError` when this user may not see it.
    """
    try:
        return beacon.stat().st_mtime
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NanoexecError(f"{beacon}: cannot be seen: {error.strerror}") from None
