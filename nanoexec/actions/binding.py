"""Arguments onto a command: each value is checked against its manifest and lands in argv, never in a shell."""

import re
from collections.abc import Iterable
from typing import Final

from nanoexec.actions.manifest import PLACEHOLDER, SAFE_TEXT, Argument, Kind, Manifest
from nanoexec.errors import RefusedError, UsageError

MAX_LENGTH: Final = 4096
_SHOWN: Final = 60
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")


def parse_pairs(pairs: Iterable[str]) -> dict[str, str]:
    """``KEY=VALUE`` as typed on a command line; only the first ``=`` divides. Raises `UsageError`."""
    arguments: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise UsageError(f"argument {shown(pair)}: expected KEY=VALUE")
        if key in arguments:
            raise UsageError(f"argument {shown(key)} is given twice")
        arguments[key] = value
    return arguments


def bind(manifest: Manifest, arguments: dict[str, str]) -> tuple[str, ...]:
    """The whole argv: the command, then the templates of each argument that has a value, in the manifest's order.

    Raises `RefusedError`, which names the argument and says what was expected.
    """
    for name in arguments:
        if name not in manifest.arguments:
            known = ", ".join(manifest.arguments) or "none"
            raise RefusedError(f"{manifest.name}: unknown argument {shown(name)}; it takes: {known}")
    argv = list(manifest.command)
    for name, argument in manifest.arguments.items():
        text = arguments.get(name, default_text(argument))
        if text is None:
            if argument.required:
                raise RefusedError(f"{manifest.name}: argument {name} is required: {expectation(argument)}")
            continue
        if wrong := problem(argument, text):
            raise RefusedError(f"{manifest.name}: argument {name}: {wrong}")
        argv += _fill(argument, text)
    return tuple(argv)


def problem(argument: Argument, text: str) -> str:
    """Why ``text`` cannot be the value of ``argument``, as ``expected …, got …``; empty when it can."""
    if len(text) > MAX_LENGTH:
        return f"expected at most {MAX_LENGTH} characters, got {len(text)}"
    if not _is_one_line_of_text(text):
        expected = "one line of text without NUL"
    elif text.startswith("-") and any(template.startswith(PLACEHOLDER) for template in argument.argv):
        expected = "no leading '-', which the command would read as an option"
    elif _accepts(argument, text):
        return ""
    else:
        expected = expectation(argument)
    return f"expected {expected}, got {shown(text)}"


def expectation(argument: Argument) -> str:
    """What an argument takes, in words."""
    if argument.type is Kind.BOOLEAN:
        return "true or false"
    if argument.type is Kind.CHOICE:
        return "one of " + ", ".join(argument.choices)
    if argument.type is Kind.STRING:
        return f"text matching {argument.pattern or SAFE_TEXT}"
    least = "" if argument.minimum is None else f" from {argument.minimum}"
    most = "" if argument.maximum is None else f" up to {argument.maximum}"
    return f"a whole number{least}{most}"


def default_text(argument: Argument) -> str | None:
    """The default as an operator would have typed it."""
    if isinstance(argument.default, bool):
        return "true" if argument.default else "false"
    return None if argument.default is None else str(argument.default)


def shown(text: str) -> str:
    """A foreign text within a message: quoted, on one line, not too long."""
    return ascii(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!a}…"


def _accepts(argument: Argument, text: str) -> bool:
    if argument.type is Kind.BOOLEAN:
        return text in {"true", "false"}
    if argument.type is Kind.CHOICE:
        return text in argument.choices
    if argument.type is Kind.STRING:
        return re.fullmatch(argument.pattern or SAFE_TEXT, text) is not None
    if not _INTEGER.fullmatch(text):
        return False
    least, most = argument.minimum, argument.maximum
    return (least is None or int(text) >= least) and (most is None or int(text) <= most)


def _is_one_line_of_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: an undecodable byte on somebody's command line
        return False
    return not any(character in text for character in "\0\n\r")


def _fill(argument: Argument, text: str) -> list[str]:
    if argument.type is Kind.BOOLEAN:
        return list(argument.argv) if text == "true" else []
    return [template.replace(PLACEHOLDER, text) for template in argument.argv]
