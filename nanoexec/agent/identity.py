"""Who this node is: its configuration, its name, its certificate; and how far the hub has its journal."""

import socket
from pathlib import Path
from typing import Final

import msgspec

from nanoexec import config, files
from nanoexec.agent.outbox import Cursor
from nanoexec.errors import ConfigError
from nanoexec.keys import credentials
from nanoexec.model import Credentials, Value

_ADVICE: Final = "`nanoexec agent join HUB:PORT TOKEN` writes it"


class Identity(Value, frozen=True):
    """What an agent needs to know of itself before it dials.

    The name is not read from the certificate, which would cost every agent the 10 MB of a library: the hub says in its
    welcome which name the certificate has, and the agent compares.
    """

    config: config.AgentConfig
    name: str
    hub_name: str
    credentials: Credentials


def read_config(paths: config.Paths) -> config.AgentConfig:
    """``agent.toml``. Raises `ConfigError`."""
    if not paths.agent_config.exists():
        raise ConfigError(f"{paths.agent_config}: not there: {_ADVICE}")
    return config.parse_agent(files.read_bytes(paths.agent_config, "the agent's configuration"), paths.agent_config)


def read_identity(paths: config.Paths) -> Identity:
    """Everything, checked. Raises `ConfigError`, `IdentityError`."""
    found = read_config(paths)
    return Identity(
        config=found,
        name=found.name or host_name(),
        hub_name=found.hub_name or found.hub.lower(),
        credentials=credentials.load_node(paths.agent_state),
    )


def read_cursor(file: Path) -> Cursor:
    """How far the journal has been relayed. A cursor that cannot be read costs a repetition, nothing else."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Cursor)
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError):
        return Cursor()


def host_name() -> str:
    """The machine's fully qualified name, in lower case."""
    return socket.getfqdn().lower()
