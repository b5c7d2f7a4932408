"""Layers of manifest files become one catalog.

A layer is the files of one directory; a later layer is laid over the earlier ones, key by key. Tables are merged, any
other value is replaced, and ``override = "replace"`` starts the action anew. What is checked is the merged document,
and each fault names the file that supplied the key. An action with a fault is left out; the others work.

A file that cannot be read at all withholds the action it is named after: if what it says of ``puppet`` is lost, running
``puppet`` as if it had said nothing would be a guess.
"""

import tomllib
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from nanoexec.actions.binding import shown
from nanoexec.actions.checking import Where, check
from nanoexec.actions.manifest import Fault, Manifest
from nanoexec.errors import RefusedError
from nanoexec.model import ActionName, Value

SUFFIX: Final = ".toml"
_DEPTH: Final = 4  # the deepest table a manifest has is three down; what is deeper is not merged, only complained of


class Source(Value, frozen=True):
    """A manifest file as it was read."""

    file: str
    data: bytes


class Catalog(Value, frozen=True):
    """The actions that can be used, all faults, and for every action (faulty or not) the files that speak of it."""

    actions: dict[str, Manifest]
    faults: tuple[Fault, ...]
    sources: dict[str, tuple[str, ...]]

    def find(self, name: str) -> Manifest:
        """The action of that name. Raises `RefusedError`, which says whether it is unknown or faulty."""
        if name in self.actions:
            return self.actions[name]
        for fault in self.faults:
            if fault.action == name:
                raise RefusedError(f"action {name} has a faulty manifest: {fault}")
        known = ", ".join(sorted(self.actions)) or "none"
        raise RefusedError(f"unknown action {shown(name)}; this node knows: {known}")


class _Draft:
    """The document of one action while layers are laid over each other, remembering who supplied what."""

    def __init__(self) -> None:
        self.files: tuple[str, ...] = ()
        self.document: dict[str, Any] = {}
        self._origins: dict[Where, str] = {}

    def lay(self, file: str, table: dict[str, Any], *, anew: bool) -> None:
        if anew:
            self.document, self._origins = {}, {}
        self.files += (file,)
        self._origins[()] = file
        self._merge(self.document, table, (), file)

    def origin(self, where: Where) -> str:
        """The file that supplied a key; for a key that nobody supplied, the last that spoke of its table."""
        while where not in self._origins:
            where = where[:-1]
        return self._origins[where]

    def _merge(self, below: dict[str, Any], above: dict[str, Any], where: Where, file: str) -> None:
        for key, value in above.items():
            here = (*where, key)
            self._origins[here] = file
            if isinstance(value, dict) and len(here) < _DEPTH:
                if not isinstance(below.get(key), dict):
                    below[key] = {}
                self._merge(below[key], value, here, file)
            else:
                below[key] = value


def merge(layers: Iterable[Sequence[Source]], faults: Iterable[Fault] = (), only: str | None = None) -> Catalog:
    """The catalog of some layers, the lowest first, the files of each in the order given.

    ``faults`` are those already met while reading files. With ``only``, no other action is checked: quicker when one is
    wanted.
    """
    found = list(faults)
    drafts: dict[str, _Draft] = {}
    for layer in layers:
        first: dict[str, str] = {}
        for source in layer:
            table = _parse(source)
            if isinstance(table, Fault):
                found.append(table)
                continue
            name = table["name"]
            if name in first:
                found.append(_duplicate(source.file, name, first[name]))
                continue
            first[name] = source.file
            way = table.pop("override", "merge")
            if way not in ("merge", "replace"):
                message = f"expected merge or replace, got {shown(str(way))}"
                found.append(Fault(file=source.file, key="override", message=message, action=name))
            drafts.setdefault(name, _Draft()).lay(source.file, table, anew=way == "replace")
    actions = {}
    for name, draft in drafts.items():
        if only in (None, name):
            manifest, complaints = check(draft.document, draft.origin)
            found.extend(complaints)
            if manifest:
                actions[name] = manifest
    withheld = {fault.action for fault in found}
    return Catalog(
        actions={name: manifest for name, manifest in sorted(actions.items()) if name not in withheld},
        faults=tuple(found),
        sources={name: draft.files for name, draft in sorted(drafts.items())},
    )


def named_after(file: str) -> str:
    """The action that a file speaks of by its own name, for when its content cannot say."""
    return file.rpartition("/")[2].removesuffix(SUFFIX)


def _parse(source: Source) -> dict[str, Any] | Fault:
    """The document, sure to have a sound ``name``."""
    try:
        table = tomllib.loads(source.data.decode())
    except UnicodeDecodeError as error:
        return _unreadable(source.file, "", f"not UTF-8 at byte {error.start}")
    except ValueError as error:  # besides TOMLDecodeError: an integer with more digits than Python converts
        return _unreadable(source.file, "", f"not valid TOML: {error}")
    except RecursionError:
        return _unreadable(source.file, "", "not valid TOML: nested too deeply")
    try:
        msgspec.convert(table.get("name"), ActionName)
    except msgspec.ValidationError:
        expected = "expected a name of small letters, digits and . _ -, such as ansible-pull"
        return _unreadable(source.file, "name", expected if "name" in table else f"this key is required: {expected}")
    return table


def _unreadable(file: str, key: str, message: str) -> Fault:
    return Fault(file=file, key=key, message=message, action=named_after(file))


def _duplicate(file: str, name: str, first: str) -> Fault:
    return Fault(file=file, key="name", message=f"{name} is already defined by {first}: keep one of them", action=name)
