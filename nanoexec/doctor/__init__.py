"""What is wrong with this hub or node, stage by stage, in the order in which each needs the one before.

`finding` has the values and the judgements, which are pure; `node` and `hub` look at the world, `identity` for both of
them; `local` asks a daemon over its unix socket. `status` says how a node is, and judges nothing. Nothing here changes
anything: no delivery is taken, no run started.
"""

from collections.abc import Iterator
from pathlib import Path

from nanoexec.config import Paths
from nanoexec.doctor import hub, node
from nanoexec.doctor.finding import Finding, Level, unseen
from nanoexec.errors import ConfigError
from nanoexec.model import Value

__all__ = ["Finding", "Level", "Sides", "examine", "sides", "unseen"]


class Sides(Value, frozen=True):
    """What a machine is: one of them at least."""

    hub: bool
    node: bool


def examine(paths: Paths) -> Iterator[Finding]:
    """Every finding about whichever sides are configured under ``paths``, each as soon as it is known.

    Raises `ConfigError` when neither is.
    """
    configured = sides(paths)
    if configured.hub:
        yield from hub.examine(paths)
    if configured.node:
        yield from node.examine(paths)


def sides(paths: Paths) -> Sides:
    """Which sides are configured under ``paths``. Raises `ConfigError` when none is, or that cannot be seen."""
    found = Sides(hub=_is_there(paths.hub_config), node=_is_there(paths.agent_config) or _is_there(paths.joined))
    if not (found.hub or found.node):
        raise ConfigError(
            f"{paths.etc}: neither hub.toml nor agent.toml nor joined.toml is there: `nanoexec hub init --name NAME` "
            "makes a hub of this machine, `nanoexec agent join HUB:PORT TOKEN` a node"
        )
    return found


def _is_there(file: Path) -> bool:
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ConfigError(f"{file}: cannot be seen: {error.strerror}: run this as root") from None
    return True
