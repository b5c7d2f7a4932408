"""Making a hub: its authority, its certificate, its configuration."""

import time
from pathlib import Path
from typing import Final

import msgspec

from nanoexec import systemd
from nanoexec.config import HubConfig, Paths, parse_hub
from nanoexec.errors import ConfigError, UsageError
from nanoexec.files import read_bytes, write_atomically
from nanoexec.keys import ca, credentials

MACHINE: Final = Path("/")

_CONFIG: Final = """\
# nanoexec hub. Every key has a default; see nanoexec.toml(5).

# bind = "0.0.0.0"
# publish_port = 4444
# report_port = 4445
# join_port = 4446        # open only while a join token is outstanding
# operators = "nanoexec-operators"   # the Unix group that may use `nanoexec trigger`
# history_days = 90

# [groups]
# web = "web[01-20],!web07"
"""


def create(paths: Paths, name: str) -> list[str]:
    """Make everything and say what was made. An existing configuration stays as it is.

    Raises `UsageError` for a name that no hub can have, `IdentityError` when this hub has an identity already, and
    `ConfigError` when its configuration is at fault or has another name, or when a directory cannot be made.
    """
    try:
        msgspec.convert({"name": name}, HubConfig)
    except msgspec.ValidationError:
        raise UsageError(f"{name!r} cannot be a hub's name: use its host name, such as hub.example.org") from None
    try:
        paths.hub_config.parent.mkdir(parents=True, exist_ok=True)
        _check_present(paths.hub_config, name)
    except OSError as error:
        raise ConfigError(f"{paths.hub_config}: cannot be made: {error.strerror or error}") from None
    now = time.time()
    authority = ca.make_ca(name, now)
    credentials.write_hub(paths.hub_state, authority, ca.make_hub_certificate(authority, name, now))
    said = [f"made the hub {name}: its keys are in {paths.hub_state}"]
    if paths.hub_config.exists():
        said.append(f"{paths.hub_config} was there and stays as it is")
    else:
        write_atomically(paths.hub_config, _CONFIG.encode(), 0o644)
        said.append(f"wrote {paths.hub_config}")
    return [*said, next_step(by_systemd=paths.root == MACHINE and systemd.booted())]


def next_step(*, by_systemd: bool) -> str:
    """What to do now; ``by_systemd``: a unit serves this hub."""
    if by_systemd:
        return "next: systemctl start nanoexec-hub, then: nanoexec hub token"
    return "next: nanoexec hub serve, and in another terminal: nanoexec hub token"


def _check_present(file: Path, name: str) -> None:
    if not file.exists():
        return
    wanted = parse_hub(read_bytes(file, "the hub's configuration"), file).name
    if wanted not in (None, name):
        raise ConfigError(f"{file}: name: it is {wanted!r}, and not {name!r}: leave the key out, or change it")
