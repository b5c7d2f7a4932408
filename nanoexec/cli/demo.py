"""``nanoexec demo``: see it work before installing anything."""

import typer

from nanoexec.cli.options import example


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", epilog=example("nanoexec demo", "nanoexec demo --nodes 10 --keep"))(demo)


def demo(
    nodes: int = typer.Option(3, "--nodes", min=1, max=50, help="How many nodes to play with."),
    keep: bool = typer.Option(False, "--keep", help="Leave the directory with keys, logs and databases for a look."),
) -> None:
    """Run a hub and some nodes on this machine, trigger an action, lose a node and see it catch up. Needs no root."""
    import sys

    from nanoexec.cli.daemons import demand_hub
    from nanoexec.demo import run

    demand_hub()
    run(nodes, keep=keep, out=sys.stdout)
