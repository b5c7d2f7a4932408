"""``nanoexec agent``: join a hub, listen to it."""

from pathlib import Path
from typing import Optional

import typer

from nanoexec.cli.options import CONFIG, ROOT, example, paths
from nanoexec.cli.plain import Commands

app = Commands(
    help="The agent on a node.",
    epilog=example("nanoexec agent join hub.example.org:4446 TOKEN", "nanoexec agent serve"),
)


@app.command(epilog=example("nanoexec agent join hub.example.org:4446 TOKEN"))
def join(
    address: str = typer.Argument(..., metavar="HUB:PORT", help="Where the hub lets machines join."),
    token: str = typer.Argument(
        ..., metavar="TOKEN", help="What `nanoexec hub token` printed; - reads standard input."
    ),
    name: Optional[str] = typer.Option(None, "--name", metavar="NAME", help="This node's name; its FQDN unless given."),
    root: Path = ROOT,
    config: Optional[Path] = CONFIG,
) -> None:
    """Make this machine a node: make its key here, check the hub, get a certificate.

    An agent that runs notices, also when the node joins again.
    """
    import asyncio
    import sys

    from nanoexec import settings
    from nanoexec.agent.identity import host_name
    from nanoexec.agent.join import join as join_hub
    from nanoexec.agent.join import overridden
    from nanoexec.cli import render

    pasted = sys.stdin.readline() if token == "-" else token  # noqa: S105 - a dash is no secret
    where = paths(root, config)
    called = name or settings.read_own(where).name or host_name()
    joined = asyncio.run(join_hub(where, address, pasted, called.lower()))
    render.say(f"joined {joined.hub_name} as {joined.name}; {where.joined} and the key are written")
    render.tell(*overridden(where, joined))


@app.command(epilog=example("nanoexec agent serve"))
def serve(root: Path = ROOT, config: Optional[Path] = CONFIG) -> None:
    """Listen to the hub until SIGTERM. Needs no privileges: the runner executes."""
    from nanoexec.cli.daemons import become

    become("nanoexec.agent", paths(root, config))
