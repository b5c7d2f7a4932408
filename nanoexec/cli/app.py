"""Every command, by name."""

import typer

from nanoexec import __version__
from nanoexec.cli import (
    actions,
    agent,
    cancel,
    cron,
    demo,
    doctor,
    history,
    hub,
    nodes,
    original,
    overdue,
    prove,
    status,
    trigger,
)
from nanoexec.cli.options import example
from nanoexec.cli.plain import Commands

app = Commands(
    name="nanoexec",
    help="Run a named action on every machine now, and see every result.",
    epilog=example("nanoexec trigger ALL:uptime"),
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"nanoexec {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    pass


for module in (trigger, cancel, history, prove, overdue, actions, status, doctor, original, demo):
    module.register(app)
groups = {"hub": hub.app, "agent": agent.app, "nodes": nodes.app, "actions": actions.app, "cron": cron.app}
for name, group in groups.items():
    app.add_typer(group, name=name)
