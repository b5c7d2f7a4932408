"""``nanoexec hub``: make a hub, serve it, let machines join it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from nanoexec.cli.options import CONFIG, PLAIN, ROOT, Plain, example, paths
from nanoexec.cli.plain import Commands

if TYPE_CHECKING:
    from nanoexec.wire.control import Status

app = Commands(
    help="The hub on the central host.",
    epilog=example("nanoexec hub init --name hub.example.org", "nanoexec hub serve"),
)


@app.command(epilog=example("nanoexec hub init --name hub.example.org"))
def init(
    name: str = typer.Option(..., "--name", metavar="NAME", help="The name by which nodes reach and check this hub."),
    root: Path = ROOT,
) -> None:
    """Make a hub: its certificate authority, its certificate and its configuration."""
    from nanoexec.cli import render
    from nanoexec.hub.setup import create

    for line in create(paths(root), name.lower()):
        render.say(line)


@app.command(epilog=example("nanoexec hub serve"))
def serve(root: Path = ROOT, config: Optional[Path] = CONFIG) -> None:
    """Serve nodes and operators until SIGTERM."""
    from nanoexec.cli.daemons import become, demand_hub

    demand_hub()
    become("nanoexec.hub", paths(root, config))


@app.command(
    epilog=example(
        "nanoexec hub token", "nanoexec hub token --node db1.example.org", "nanoexec hub token --uses 200 --ttl 2h"
    )
)
def token(
    node: Optional[str] = typer.Option(None, "--node", metavar="NAME", help="Only this node may use it."),
    ttl: str = typer.Option("1h", "--ttl", metavar="DURATION", help="How long it is good for; 30d at most."),
    uses: int = typer.Option(1, "--uses", min=1, max=100_000, help="How many machines may join with it."),
    output: Plain = PLAIN,
    root: Path = ROOT,
) -> None:
    """Print a join token, for `nanoexec agent join` on a machine. It is shown once and kept nowhere."""
    from nanoexec.cli import render, words
    from nanoexec.cli.ask import ask
    from nanoexec.wire.control import MakeToken, TokenText

    only = None if node is None else words.node_name(node)  # an empty name, from a script, is not everybody
    reply = ask(paths(root), MakeToken(lifetime=words.lifetime("--ttl", ttl), uses=uses, node=only))
    if isinstance(reply, TokenText):
        if output is Plain.JSON:
            render.print_json({"token": reply.token, "expires": reply.expires, "join_port": reply.join_port})
            return
        render.say(reply.token)
        hub = reply.token.rpartition(".")[0]
        render.tell(
            f"until {render.moment(reply.expires)}, on the machine: nanoexec agent join {hub}:{reply.join_port} TOKEN"
        )


@app.command(epilog=example("nanoexec hub status -o json"))
def status(output: Plain = PLAIN, root: Path = ROOT) -> None:
    """Show how the hub is."""
    from nanoexec.cli import render
    from nanoexec.cli.ask import ask
    from nanoexec.wire.control import AskStatus, Status

    reply = ask(paths(root), AskStatus())
    if not isinstance(reply, Status):
        return
    if output is Plain.JSON:
        render.print_json(render.plain(reply))
        return
    render.say(*status_lines(reply))


def status_lines(reply: "Status") -> list[str]:
    """The hub's state for reading."""
    from nanoexec.cli import render

    heard = f"last came back {render.moment(reply.heard)}" if reply.heard else "has not come back yet"
    nodes = render.counted(reply.nodes, "node")
    joining = f"machines may join on port {reply.join_port}" if reply.join_port else "no token is outstanding"
    return [
        f"hub {reply.hub}, version {reply.version}, since {render.moment(reply.started)}",
        f"{reply.connected} of {nodes} connected; ports {reply.publish_port} and {reply.report_port}",
        joining,
        f"{reply.open_deliveries} deliveries open; its own beacon {heard}",
        *(f"{count} {what.replace('_', ' ')}" for what, count in sorted(reply.counters.items()) if count),
        *([f"PROBLEM: {reply.problem}"] if reply.problem else []),
        *([f"ALARM: {reply.alarm}"] if reply.alarm else []),
    ]


@app.command(
    epilog=example(
        "nanoexec hub backup /var/backups/hub.tar", "nanoexec hub backup --force /var/backups/hub-$(date +%u).tar"
    )
)
def backup(
    file: Path = typer.Argument(..., metavar="FILE", help="Where to write it, for its owner only."),
    force: bool = typer.Option(False, "--force", help="Replace FILE if it is there."),
    output: Plain = PLAIN,
    root: Path = ROOT,
    config: Optional[Path] = CONFIG,
) -> None:
    """Put the hub into one file: its configuration, its keys, its database. It may serve meanwhile.

    Keep the file like the keys that are in it: whoever has it can be the hub.
    """
    import time

    from nanoexec.cli import render
    from nanoexec.cli.daemons import demand_hub

    demand_hub()
    from nanoexec.hub.backup import back_up

    kept = back_up(paths(root, config), file.absolute(), time.time(), force=force)
    if output is Plain.JSON:
        render.print_json(render.plain(kept))
    else:
        render.say(f"{kept.file}: the hub {kept.hub} at {render.moment(kept.made)}, {kept.size / 1e6:.1f} MB")


@app.command(epilog=example("nanoexec hub restore /var/backups/hub.tar", "nanoexec hub serve"))
def restore(
    file: Path = typer.Argument(..., metavar="FILE", help="What `nanoexec hub backup` wrote."),
    force: bool = typer.Option(False, "--force", help="Put the state of a hub that is here aside first."),
    output: Plain = PLAIN,
    root: Path = ROOT,
    config: Optional[Path] = typer.Option(None, "--config", metavar="FILE", help="Put the configuration here instead."),
) -> None:
    """Make a hub of a backup, with the same name and the same authority: its nodes come back by themselves.

    They tell what has run since the backup, and start nothing again. A hub that runs here is never replaced.
    """
    import time

    from nanoexec.cli import render
    from nanoexec.cli.daemons import demand_hub

    demand_hub()
    from nanoexec.hub.backup import restore as make

    made = make(paths(root, config), file.absolute(), time.time(), force=force)
    if output is Plain.JSON:
        render.print_json(render.plain(made))
        return
    render.say(f"restored the hub {made.hub} as of {render.moment(made.made)}: {render.counted(made.nodes, 'node')}")
    if made.aside:
        render.say(f"what was here is in {made.aside}")
    if made.open_triggers:
        render.tell(f"still open, and offered to nodes that have not run them: {', '.join(made.open_triggers)}")
    render.tell(
        "since the backup forgotten: revocations (revoke again), cancellations (cancel again), "
        "machines that joined (join again), join tokens",
        "next: nanoexec hub serve",
    )


@app.command("signing-key", epilog=example("nanoexec hub signing-key ~/.config/nanoexec/signing.key"))
def signing_key(file: Path = typer.Argument(..., metavar="FILE", help="Where to keep the new key.")) -> None:
    """Make an Ed25519 key to sign triggers with, and print the line for the nodes' agent.toml."""
    from nanoexec.cli import render
    from nanoexec.errors import ConfigError, IdentityError
    from nanoexec.files import write_atomically
    from nanoexec.keys import signing

    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        is_there = file.exists()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be made: {error.strerror or error}") from None
    if is_there:
        raise IdentityError(f"{file}: exists; a signing key is never overwritten")
    key = signing.make_signing_key()
    write_atomically(file, key.encode(), 0o600)
    render.say(f'signers = ["{signing.public_line(key)}"]')
    sys.stdout.flush()
    render.tell(
        "put that line into agent.toml on the nodes that shall run only signed triggers, and restart agent and runner "
        f"there; then: nanoexec trigger --sign {file}"
    )
