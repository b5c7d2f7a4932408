"""The configuration of a node, as its files have it: the one place that reads ``agent.toml`` and ``joined.toml``."""

from pathlib import Path, PurePosixPath

from nanoexec.config import AgentConfig, Joined, Paths, parse_agent, parse_joined
from nanoexec.errors import ConfigError


def read_agent(paths: Paths) -> AgentConfig:
    """What holds on this node: the keys of ``agent.toml``, then those of ``joined.toml``, then the defaults.

    Either file may be absent, unless ``agent.toml`` was asked for by name. Raises `ConfigError` naming the file at
    fault.
    """
    return parse_agent(_own(paths), PurePosixPath(paths.agent_config), read_joined(paths))


def read_own(paths: Paths) -> AgentConfig:
    """What ``agent.toml`` alone says. Raises `ConfigError`."""
    return parse_agent(_own(paths), PurePosixPath(paths.agent_config))


def read_joined(paths: Paths) -> Joined | None:
    """What joining has decided, None before it. Raises `ConfigError`."""
    data = _content(paths.joined)
    return None if data is None else parse_joined(data, PurePosixPath(paths.joined))


def _own(paths: Paths) -> bytes:
    data = _content(paths.agent_config)
    if data is None and paths.config:
        raise ConfigError(f"{paths.config}: cannot read the node's configuration: it is not there")
    return data or b""


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{file}: cannot read the node's configuration: {error.strerror or error}") from None
