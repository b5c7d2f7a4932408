"""What can stand where: the kind of each value, told by how its usage line shows it."""

from typing import Final

from docs.man.commands import Argument, Command, Option

ANYTHING: Final = "anything"
_KINDS: Final = {
    "ACTION": "action",
    "DIR": "directory",
    "FILE": "file",
    "KEYFILE": "file",
    "NODE": "node",
    "TARGET": "target",
    "TARGET:ACTION": "trigger",
}
# An option whose value is shown by a general word, and yet is more than that.
_OPTIONS: Final = {"--node": "node"}


def of_option(option: Option) -> str:
    """The kind of its value, or its choices as ``text|json``; empty for a flag."""
    if not option.value or option.choices:
        return option.value
    known = [_OPTIONS[name] for name in option.names if name in _OPTIONS]
    return known[0] if known else _KINDS.get(option.value, ANYTHING)


def of_argument(argument: Argument) -> str:
    """The kind of a positional argument."""
    return _KINDS.get(argument.shown.removesuffix("...").strip("[]"), ANYTHING)


def repeats(argument: Argument) -> bool:
    """Whether more of the same may follow."""
    return argument.shown.endswith("...")


def as_command(options: tuple[Option, ...]) -> Command:
    """``nanoexec-run`` as a value, of which the tree knows nothing."""
    return Command(
        words=("nanoexec-run",),
        help=("Run an action of this node now.",),
        options=options,
        arguments=(Argument(shown="ACTION", help="Its name."),),
    )
