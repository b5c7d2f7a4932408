"""Every command, by name, and the module that has it."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final

import typer

from nanoexec import __version__
from nanoexec.cli.options import example
from nanoexec.cli.plain import Commands

# In the order of the help. A module `register`s its commands; that of a group is its `app`.
_COMMANDS: Final[Mapping[str, str]] = {
    "trigger": "trigger",
    "exec": "trigger",
    "cancel": "cancel",
    "history": "history",
    "show": "history",
    "prove": "prove",
    "overdue": "overdue",
    "run": "actions",
    "status": "status",
    "doctor": "doctor",
    "listen": "original",
    "send": "original",
    "demo": "demo",
}
_GROUPS: Final = ("hub", "agent", "nodes", "actions", "cron")


def program(words: Sequence[str] = ()) -> Commands:
    """The command line; of it, what ``words`` need, if they begin with a command.

    A command that is typed waits for its own module only: all of them together are a tenth of a cold start.
    """
    app = Commands(
        name="nanoexec",
        help="Run a named action on every machine now, and see every result.",
        epilog=example("nanoexec trigger ALL:uptime"),
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_main)
    asked = words[0] if words else ""
    if asked in _COMMANDS:
        _module(_COMMANDS[asked]).register(app)
    elif asked in _GROUPS:
        app.add_typer(_module(asked).app, name=asked)
    else:
        for name in dict.fromkeys(_COMMANDS.values()):
            _module(name).register(app)
        for name in _GROUPS:
            app.add_typer(_module(name).app, name=name)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        print(f"nanoexec {__version__}")
        raise typer.Exit


def _main(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    pass


def _module(name: str) -> Any:
    return import_module(f"nanoexec.cli.{name}")
