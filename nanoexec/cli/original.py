"""``nanoexec listen`` and ``nanoexec send``: the original's wire, for what still speaks it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Optional

import typer

from nanoexec.cli.options import CONFIG, ROOT, example, paths
from nanoexec.config import Paths


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        "listen",
        epilog=example(
            "nanoexec listen tcp://master.example.org:4444",
            "nanoexec listen tcp://master:4444 --user nobody --hostname web1 --allow-exec --verbose",
        ),
    )(listen)
    app.command(
        "send",
        epilog=example(
            "nanoexec send --listen 'tcp://*:4444' ALL:slaughter",
            "nanoexec send --listen 'tcp://*:4444' --subscribers 20 --within 30s web1:uptime",
        ),
    )(send)


def listen(
    url: str = typer.Argument(..., metavar="tcp://HOST:PORT", help="Where the sender is, from time to time."),
    user: Optional[str] = typer.Option(None, "--user", metavar="USER", help="Become this user first."),
    hostname: Optional[str] = typer.Option(
        None, "--hostname", metavar="NAME", help="Listen for this name, besides ALL; the machine's unless given."
    ),
    verbose: bool = typer.Option(False, "--verbose", help="Say every frame and how every command ends."),
    allow_exec: bool = typer.Option(False, "--allow-exec", help="Run what is no action as a shell command."),
    root: Path = ROOT,
    config: Optional[Path] = CONFIG,
) -> None:
    """Run what comes over the original's wire, as this node's named actions.

    This wire is neither encrypted nor authenticated: whoever reaches it gives orders here.
    """
    import socket
    import sys

    from nanoexec import original

    original.listen(
        url,
        hostname=hostname or socket.gethostname(),
        resolve=_resolver(paths(root, config)),
        out=sys.stdout,
        user=user,
        allow_exec=allow_exec,
        verbose=verbose,
    )


def send(
    message: str = typer.Argument(..., metavar="HOST:COMMAND", help="For whom, or ALL, and what."),
    url: str = typer.Option(..., "--listen", metavar="tcp://*:PORT", help="Where the listeners dial."),
    subscribers: int = typer.Option(1, "--subscribers", min=1, max=100_000, help="Wait for at least so many."),
    within: str = typer.Option(
        "10s", "--within", metavar="DURATION", help="Send nothing if they are not here by then."
    ),
) -> None:
    """Send one order over the original's wire, once its listeners are connected, and say to how many it went."""
    import sys

    from nanoexec import original
    from nanoexec.duration import parse_duration

    original.send(url, message, out=sys.stdout, subscribers=subscribers, within=parse_duration(within))


def _resolver(where: Paths) -> Callable[[str], Optional[Sequence[str]]]:
    """What a frame's command means here. The manifests may change while the listener runs."""
    from nanoexec.catalog import CatalogCache
    from nanoexec.original import action_command

    cache = CatalogCache(where)

    def resolve(name: str) -> Optional[Sequence[str]]:
        catalog = cache.current()
        if name in catalog.sources or any(fault.action == name for fault in catalog.faults):
            catalog.find(name)  # one with a fault must not fall through to the shell
            return action_command(name, where)
        return None

    return resolve
