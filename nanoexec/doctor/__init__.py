"""What is wrong with this hub or node, stage by stage, in the order in which each needs the one before.

`finding` has the values and the judgements, which are pure; `node` and `hub` look at the world, `identity` for both of
them; `local` asks a daemon over its unix socket. `status` says how a node is, and judges nothing. Nothing here changes
anything: no delivery is taken, no run started.
"""

from collections.abc import Iterator
from pathlib import Path

from nanoexec.config import Paths
from nanoexec.doctor import hub, node
from nanoexec.doctor.finding import Finding, Level
from nanoexec.errors import ConfigError

__all__ = ["Finding", "Level", "examine"]


def examine(paths: Paths) -> Iterator[Finding]:
    """Every finding about whichever sides are configured under ``paths``, each as soon as it is known.

    Raises `ConfigError` when neither is.
    """
    sides = [((paths.hub_config,), hub.examine), ((paths.agent_config, paths.joined), node.examine)]
    present = [look for files, look in sides if any(map(_is_there, files))]
    if not present:
        raise ConfigError(
            f"{paths.etc}: neither hub.toml nor agent.toml nor joined.toml is there: `nanoexec hub init --name NAME` "
            "makes a hub of this machine, `nanoexec agent join HUB:PORT TOKEN` a node"
        )
    for look in present:
        yield from look(paths)


def _is_there(file: Path) -> bool:
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ConfigError(f"{file}: cannot be seen: {error.strerror}: run this as root") from None
    return True
