"""Making a hub: its authority, its certificate, its configuration."""

import time

import msgspec

from nanoexec.config import HubConfig, Paths
from nanoexec.errors import UsageError
from nanoexec.files import write_atomically
from nanoexec.keys import ca, credentials

_CONFIG = """\
# nanoexec hub. Every key but the name has a default; see nanoexec.toml(5).
name = "{name}"

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

    Raises `UsageError` for a name that no hub can have, `IdentityError` when this hub has an identity already.
    """
    try:
        msgspec.convert({"name": name}, HubConfig)
    except msgspec.ValidationError:
        raise UsageError(f"{name!r} cannot be a hub's name: use its host name, such as hub.example.org") from None
    now = time.time()
    authority = ca.make_ca(name, now)
    for directory in (paths.hub_state, paths.hub_config.parent):
        directory.mkdir(parents=True, exist_ok=True)
    credentials.write_hub(paths.hub_state, authority, ca.make_hub_certificate(authority, name, now))
    said = [f"made the hub {name}: its keys are in {paths.hub_state}"]
    if paths.hub_config.exists():
        said.append(f"{paths.hub_config} was there and stays as it is")
    else:
        write_atomically(paths.hub_config, _CONFIG.format(name=name).encode(), 0o644)
        said.append(f"wrote {paths.hub_config}")
    return [*said, "next: nanoexec hub serve, and in another terminal: nanoexec hub token"]
