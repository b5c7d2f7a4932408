"""The keys of the configuration files and of manifests: names, types and defaults from the values that they become.

What a key means stands in ``keys.toml``. A key without words, and words without a key, are errors.
"""

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec.inspect
import msgspec.structs

from nanoexec import config
from nanoexec.actions import manifest
from nanoexec.model import Value

TABLES: Final[dict[str, type[Value]]] = {
    "hub": config.HubConfig,
    "agent": config.AgentConfig,
    "joined": config.Joined,
    "manifest": manifest.Manifest,
    "argument": manifest.Argument,
    "outcome": manifest.Rules,
    "rule": manifest.Rule,
    "cron": manifest.Cron,
    "fallback": manifest.Fallback,
}
WORDS: Final = Path(__file__).with_name("keys.toml")


class Key(Value, frozen=True):
    """``kind`` says in words what it takes. ``default`` is as it would be written, empty where there is none."""

    name: str
    kind: str
    default: str
    required: bool
    words: str


def keys(table: str) -> list[Key]:
    """The keys of one table of `TABLES`, in the order of the code. Raises `ValueError` where words are out of step."""
    words = tomllib.loads(WORDS.read_text())[table]
    fields = msgspec.structs.fields(TABLES[table])
    if list(words) != [field.name for field in fields]:
        raise ValueError(f"{WORDS.name}: [{table}] has {list(words)}, the code {[field.name for field in fields]}")
    return [
        Key(
            field.name,
            _kind(msgspec.inspect.type_info(field.type)),
            _default(field.default),
            field.required,
            " ".join(words[field.name].split()),
        )
        for field in fields
    ]


def _kind(found: Any) -> str:
    inspect = msgspec.inspect
    match found:
        case inspect.UnionType(types=kinds):
            said = " or ".join(_kind(kind) for kind in kinds if not isinstance(kind, inspect.NoneType))
        case inspect.EnumType(cls=choices):
            said = " or ".join(f'``"{choice}"``' for choice in choices)
        case inspect.VarTupleType(item_type=of):
            said = f"a list of {_several(of)}"
        case inspect.DictType(value_type=of):
            said = f"a table of {_several(of)}"
        case inspect.IntType() | inspect.FloatType():
            said = ("a whole number" if isinstance(found, inspect.IntType) else "a number") + _range(found)
        case _:
            others: dict[type, str] = {inspect.StructType: "a table", inspect.BoolType: "true or false"}
            said = others.get(type(found), "text")
    return said


def _several(found: Any) -> str:
    kind = _kind(found).removeprefix("a ")
    return re.sub(r"^(text|table|whole number|number)", r"\1s", kind)


def _range(found: Any) -> str:
    low = f" from {found.ge}" if found.ge is not None else f" above {found.gt}" if found.gt is not None else ""
    return low + (f" to {found.le}" if found.le is not None else "")


def _default(value: Any) -> str:
    if value in (None, "", (), msgspec.NODEFAULT) or isinstance(value, msgspec.Struct):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)
