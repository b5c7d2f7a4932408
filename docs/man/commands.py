"""Every command of the command line as a value, read from the same tree that answers ``--help``.

From parameters, not from help texts: each version of typer lays those out in its own way.
"""

import inspect
from typing import Any, Final

import typer.main

from nanoexec.cli.app import program
from nanoexec.model import Value

EXAMPLE: Final = "Example:"


class Option(Value, frozen=True):
    """``names`` as they are typed, ``value`` what to type after them (empty for a flag), one of ``choices`` if any."""

    names: tuple[str, ...]
    value: str
    help: str
    choices: tuple[str, ...] = ()
    repeated: bool = False


class Argument(Value, frozen=True):
    """``shown`` is how a usage line shows it."""

    shown: str
    help: str


class Command(Value, frozen=True):
    """A command, or a group with the commands in it. ``words`` lead to it; none lead to ``nanoexec`` itself."""

    words: tuple[str, ...]
    help: tuple[str, ...]  # paragraphs
    examples: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    arguments: tuple[Argument, ...] = ()
    within: "tuple[Command, ...]" = ()

    @property
    def summary(self) -> str:
        """What it does, in one phrase."""
        return phrase(self.help[0])

    def all(self) -> "list[Command]":
        """It, and every command in it."""
        return [self, *(each for command in self.within for each in command.all())]


def phrase(words: str) -> str:
    """The first sentence of a help, without the full stop and the marks."""
    return words.partition(". ")[0].removesuffix(".").replace("`", "")


def tree() -> Command:
    """``nanoexec``, with every command in it."""
    return _command(typer.main.get_command(program()), ())


def _command(found: Any, words: tuple[str, ...]) -> Command:
    shown = [parameter for parameter in found.params if not getattr(parameter, "hidden", False)]
    within = getattr(found, "commands", {})
    help_option = Option(names=("-h", "--help"), value="", help="Show the help and exit.")
    return Command(
        words=words,
        help=tuple(" ".join(part.split()) for part in inspect.cleandoc(found.help or "").split("\n\n")),
        examples=_examples(found.epilog or ""),
        options=(*(_option(each) for each in shown if each.param_type_name == "option"), help_option),
        arguments=tuple(
            Argument(shown=_shown(each), help=each.help or "") for each in shown if each.param_type_name == "argument"
        ),
        within=tuple(_command(each, (*words, name)) for name, each in within.items() if not each.hidden),
    )


def _shown(argument: Any) -> str:
    metavar = str(argument.metavar)
    return metavar if argument.required or metavar.startswith("[") else f"[{metavar}]"


def _option(found: Any) -> Option:
    choices = tuple(str(choice) for choice in getattr(found.type, "choices", ()))
    value = "" if found.is_flag else found.metavar or "|".join(choices) or "N"
    limits = getattr(found.type, "min", None), getattr(found.type, "max", None)
    # What the help of click and typer says in brackets, said in words.
    notes = [f"{limits[0]} to {limits[1]}."] if None not in limits else []
    if not found.is_flag and found.default not in (None, [], ()):
        notes.append(f"The default is `{getattr(found.default, 'value', found.default)}`.")
    if found.required:
        notes.append("Must be given.")
    if found.envvar:
        notes.append(f"The environment variable `{found.envvar}` says the same.")
    return Option(
        names=(*found.opts, *found.secondary_opts),
        value=value,
        help=" ".join([found.help or "", *notes]),
        choices=choices,
        repeated=found.multiple,
    )


def _examples(epilog: str) -> tuple[str, ...]:
    _, heading, lines = epilog.partition(EXAMPLE)
    return tuple(line.strip() for line in lines.splitlines() if line.strip()) if heading else ()
