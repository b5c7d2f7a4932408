"""A parsed document becomes a `Manifest`, or the list of everything that is wrong with it.

msgspec stops at its first complaint, and somebody who mends a file wants to hear them all. So the document is walked
table by table and key by key: msgspec judges the type of each value, and the rules below judge what it means. A key
whose type is wrong counts as not given for the rest of the walk, and its meaning is not judged.
"""

import enum
import re
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final, get_args, get_origin

import msgspec

from nanoexec.actions.binding import default_text, problem, shown
from nanoexec.actions.manifest import PLACEHOLDER, Argument, Cron, Fallback, Fault, Kind, Manifest, Rule, Rules
from nanoexec.duration import parse_duration
from nanoexec.errors import UsageError
from nanoexec.model import EXEC

Where = tuple[str, ...]
Complaints = Iterator[tuple[str, str]]  # key within the table, message

_FIELDS: Final[dict[Any, tuple[msgspec.structs.FieldInfo, ...]]] = {
    table: msgspec.structs.fields(table) for table in (Manifest, Argument, Rules, Rule, Cron, Fallback)
}


def check(document: dict[str, Any], origin: Callable[[Where], str]) -> tuple[Manifest | None, tuple[Fault, ...]]:
    """The manifest that ``document`` describes, or None and all its faults.

    ``origin`` names the file that supplied a key, given as a path: ``("arguments", "tags", "pattern")``.
    """
    walk = _Walk(str(document.get("name", "")), origin)
    manifest = walk.table(document, Manifest, ())
    return (None if walk.faults else manifest), tuple(walk.faults)


class _Walk:
    """One walk over one document. What is wrong gathers as it goes; a value with a fault in it counts as not given."""

    def __init__(self, action: str, origin: Callable[[Where], str]) -> None:
        self._action = action
        self._origin = origin
        self.faults: list[Fault] = []

    def table(self, value: object, wanted: Any, where: Where) -> Any:
        """A `msgspec.Struct` of the class ``wanted``; None when not even its required keys are there."""
        if not isinstance(value, dict):
            return self._fault(where, f"expected a table, got {_kind_of(value)}")
        fields = {field.name: field for field in _FIELDS[wanted]}
        sound, unsound = {}, set()
        for key, item in value.items():
            if key not in fields:
                known = [*fields, "override"] if wanted is Manifest else fields  # which the layers have taken out
                self._fault((*where, key), f"unknown key; known here: {', '.join(known)}")
                continue
            before = len(self.faults)
            read = self._value(item, fields[key].type, (*where, key))
            if len(self.faults) == before:
                sound[key] = read
            else:
                unsound.add(key)
        lacking = [field.name for field in fields.values() if field.required and field.name not in sound]
        for key in lacking:
            if key not in unsound:
                self._fault((*where, key), "this key is required")
        return None if lacking else self._judged(wanted(**sound), unsound, where)

    def _judged(self, built: msgspec.Struct, unsound: set[str], where: Where) -> msgspec.Struct:
        if isinstance(built, Argument) and "type" in unsound:
            return built  # nothing else can be judged by a type that is not known
        for key, message in _MEANING[type(built)](built):
            name, bracket, item = key.partition("[")
            if name not in unsound:
                self._fault((*where, name), message, bracket + item)
        return built

    def _value(self, value: object, wanted: Any, where: Where) -> Any:
        if get_origin(wanted) is types.UnionType and len(get_args(wanted)) == len(("wanted", "None")):
            wanted = get_args(wanted)[0]
        if get_origin(wanted) is dict:
            return self._named(value, get_args(wanted), where)
        if wanted in _FIELDS:
            return self.table(value, wanted, where)
        if isinstance(wanted, enum.EnumType) and value not in tuple(wanted):
            return self._fault(where, f"expected one of {', '.join(wanted)}, got {_kind_of(value)}")
        try:
            return msgspec.convert(value, wanted)
        except msgspec.ValidationError as error:
            what, _, inside = str(error).partition(" - at `$")
            return self._fault(where, _said(what), inside.rstrip("`"))

    def _named(self, value: object, wanted: tuple[Any, Any], where: Where) -> Any:
        """A table whose keys are names that the author of the manifest chose."""
        if not isinstance(value, dict):
            return self._fault(where, f"expected a table, got {_kind_of(value)}")
        for name in value:
            self._value(name, wanted[0], (*where, name))
        return {name: self._value(item, wanted[1], (*where, name)) for name, item in value.items()}

    def _fault(self, where: Where, message: str, inside: str = "") -> Any:
        key = ".".join(part if part.isprintable() else ascii(part) for part in where) + inside
        self.faults.append(Fault(file=self._origin(where), key=key, message=message, action=self._action))


def _of_manifest(manifest: Manifest) -> Complaints:
    if manifest.name == EXEC:
        yield "name", f"{EXEC} is reserved for ad-hoc commands: choose another name"
    if not manifest.command:
        yield "command", "this key is required: the program, then its arguments"
    yield from _each("command", manifest.command, _not_one_line)
    yield from _each("command", manifest.command[:1], _not_a_program)
    yield from _each("requires", manifest.requires, _not_one_line)
    yield from _each("requires", manifest.requires, _not_a_program)
    if not manifest.cwd.startswith("/") or _not_one_line(manifest.cwd):
        yield "cwd", f"expected an absolute path, got {shown(manifest.cwd)}"
    for name, value in manifest.env.items():
        if "\0" in value:
            yield f"env.{name}", "a variable cannot contain NUL"
    for key, duration in (("timeout", manifest.timeout), ("kill_after", manifest.kill_after)):
        if wrong := _not_a_duration(duration):
            yield key, wrong


def _of_argument(argument: Argument) -> Complaints:
    yield from _keys_of_another_type(argument)
    yield from _argv(argument)
    if argument.required and argument.default is not None:
        yield "default", "a required argument has no use for a default: leave one of the two out"
    if argument.type is Kind.CHOICE:  # one that no operator could ever choose is a mistake
        yield from _each("choices", argument.choices, lambda choice: problem(argument, choice))
    if argument.pattern is not None and (wrong := _not_a_pattern(argument.pattern)):
        yield "pattern", wrong
    elif (text := default_text(argument)) is not None:
        if type(argument.default) is not _DEFAULT_TYPES[argument.type]:
            yield "default", f"expected {_TYPE_NAMES[argument.type]}, got {_kind_of(argument.default)}"
        elif wrong := problem(argument, text):
            yield "default", wrong


def _keys_of_another_type(argument: Argument) -> Complaints:
    """A key that its type does not read would be a promise that nobody keeps."""
    kind = argument.type
    if argument.pattern is not None and kind is not Kind.STRING:
        yield "pattern", f"only a string has one, and this is a {kind}"
    if bool(argument.choices) is not (kind is Kind.CHOICE):
        yield "choices", f"only a choice has them, and it needs them; this is a {kind}"
    for key, bound in (("minimum", argument.minimum), ("maximum", argument.maximum)):
        if bound is not None and kind is not Kind.INTEGER:
            yield key, f"only an integer has one, and this is a {kind}"
    if argument.minimum is not None and argument.maximum is not None and argument.minimum > argument.maximum:
        yield "minimum", f"{argument.minimum} is above the maximum, {argument.maximum}"


def _argv(argument: Argument) -> Complaints:
    if not argument.argv:
        yield "argv", "this key is required: what the argument adds to the command"
    yield from _each("argv", argument.argv, _not_one_line)
    places = any(PLACEHOLDER in template for template in argument.argv)
    if places and argument.type is Kind.BOOLEAN:
        yield "argv", "a boolean has no value to put for {}: its argv is added when it is true"
    elif argument.argv and not places and argument.type is not Kind.BOOLEAN:
        yield "argv", "needs a template with {}, the place of the value"


def _of_rules(rules: Rules) -> Complaints:
    if not rules.succeeded:
        yield "succeeded", "needs exit or output: otherwise no run could ever succeed"


def _of_rule(rule: Rule) -> Complaints:
    yield from _each("output", rule.output, _not_a_pattern)


def _of_cron(cron: Cron) -> Complaints:
    if wrong := _not_a_pattern(cron.match) if cron.match else "this key is required: a regular expression":
        yield "match", wrong


def _of_fallback(fallback: Fallback) -> Complaints:
    if fallback.timeout is not None and (wrong := _not_a_duration(fallback.timeout)):
        yield "timeout", wrong


_MEANING: Final[dict[type, Callable[[Any], Complaints]]] = {
    Manifest: _of_manifest,
    Argument: _of_argument,
    Rules: _of_rules,
    Rule: _of_rule,
    Cron: _of_cron,
    Fallback: _of_fallback,
}
_DEFAULT_TYPES: Final = {Kind.STRING: str, Kind.INTEGER: int, Kind.BOOLEAN: bool, Kind.CHOICE: str}
_TYPE_NAMES: Final = {
    Kind.STRING: "text",
    Kind.INTEGER: "a whole number",
    Kind.BOOLEAN: "true or false",
    Kind.CHOICE: "text",
}


def _each(key: str, items: tuple[str, ...], wrong_with: Callable[[str], str]) -> Complaints:
    for position, item in enumerate(items):
        if wrong := wrong_with(item):
            yield f"{key}[{position}]", wrong


def _not_a_program(text: str) -> str:
    if not text or ("/" in text and not text.startswith("/")):
        return f"expected an absolute path, or a name to look up on PATH, got {shown(text)}"
    return ""


def _not_one_line(text: str) -> str:
    return f"expected one line without NUL, got {shown(text)}" if any(sign in text for sign in "\0\n\r") else ""


def _not_a_duration(text: str) -> str:
    try:
        parse_duration(text)
    except UsageError as error:
        return str(error)
    return ""


def _not_a_pattern(text: str) -> str:
    """Why a text is no regular expression. A warning counts: it announces that the meaning will change."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(text)
    except (re.error, Warning, OverflowError, RecursionError) as error:
        return f"not a valid regular expression: {str(error) or 'nested too deeply'}"
    return ""


def _said(complaint: str) -> str:
    text = complaint.replace("`", "")
    return text[:1].lower() + text[1:]


def _kind_of(value: object) -> str:
    if isinstance(value, str):
        return shown(value)
    return {dict: "a table", list: "a list", bool: str(value).lower(), int: "a number", float: "a number"}.get(
        type(value), type(value).__name__
    )
