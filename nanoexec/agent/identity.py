"""Who this node is: its configuration, its name, its certificate; and how far the hub has its journal."""

import socket
from pathlib import Path

import msgspec

from nanoexec import settings
from nanoexec.config import AgentConfig, Paths
from nanoexec.errors import IdentityError
from nanoexec.files import read_regular, write_atomically
from nanoexec.keys import credentials
from nanoexec.model import Credentials, Cursor, Value


class Identity(Value, frozen=True):
    """What an agent needs to know of itself before it dials: the node's name, the hub's address and its name.

    The node's name is not read from the certificate, which would cost every agent the 10 MB of a library: the hub says
    in its welcome which name the certificate has, and the agent compares.
    """

    config: AgentConfig
    name: str
    hub: str
    hub_name: str
    credentials: Credentials


def read_identity(paths: Paths) -> Identity:
    """Everything, checked. Raises `ConfigError`, and `IdentityError` also when the node has not joined."""
    found = settings.read_agent(paths)
    if found.hub is None:
        raise IdentityError(f"{paths.joined}: not there; `nanoexec agent join HUB:PORT TOKEN` writes it")
    return Identity(
        config=found,
        name=found.name or host_name(),
        hub=found.hub,
        hub_name=found.hub_name or found.hub.lower(),
        credentials=credentials.load_node(paths.agent_state),
    )


def read_cursor(file: Path) -> Cursor:
    """How far the journal has been relayed. A cursor that cannot be read costs a repetition, nothing else."""
    try:
        return msgspec.json.decode(read_regular(file), type=Cursor)
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError):
        return Cursor()


def write_cursor(file: Path, cursor: Cursor) -> None:
    """Raises `ConfigError`."""
    write_atomically(file, msgspec.json.encode(cursor), 0o600)


def host_name() -> str:
    """The machine's fully qualified name, in lower case."""
    return socket.getfqdn().lower()
