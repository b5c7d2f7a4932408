"""Which nodes are meant: ``ALL``, names, node sets ``web[01-20]``, globs ``web*``, ``@group``; ``!`` takes away.

Terms are joined with commas; what stands behind a ``!`` is taken away from what the others gave, wherever it is. The
arithmetic of node sets is ClusterShell's. Ranges are counted before they are expanded, because ``web[1-999999999]`` is
seventeen bytes of expression and a hundred gigabytes of names.
"""

import fnmatch
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from nanoexec.errors import NoTargetError, TargetError
from nanoexec.model import EVERY_NODE, NodeName, Value

MAX_EXPRESSION: Final = 16 << 10  # characters
MAX_NODES: Final = 100_000
_ALLOWED: Final = re.compile(r"[A-Za-z0-9._,*?@!\[\]/-]+")
_BRACKETS: Final = re.compile(r"\[([^\[\]]*)\]")
_RANGE: Final = re.compile(r"(\d{1,15})(?:-(\d{1,15})(?:/(\d{1,15}))?)?")
_MAX_GROUP_DEPTH: Final = 8


class Resolution(Value, frozen=True):
    """``nodes`` are on the roster, in natural order; ``unknown`` were named and are not."""

    nodes: tuple[NodeName, ...]
    unknown: tuple[str, ...] = ()


def split_trigger(text: str) -> tuple[str, str]:
    """``TARGET:ACTION`` in its two parts. Raises `TargetError`."""
    target, colon, action = text.rpartition(":")
    if not (colon and target and action):
        raise TargetError(f"{text!r} is not TARGET:ACTION: write, for example, ALL:slaughter or web[01-20]:uptime")
    return target, action


def resolve(expression: str, roster: Collection[str], groups: Mapping[str, str]) -> Resolution:
    """The nodes that ``expression`` means.

    Raises `TargetError` for what cannot be read, `NoTargetError` when nothing on the roster matches.
    """
    taken, removed, unknown = _terms(expression, frozenset(roster), groups, ())
    nodes = taken - removed
    if not nodes:
        missing = f": not on the roster: {fold(unknown - removed)}" if unknown - removed else ""
        raise NoTargetError(f"target {expression!r} matches no node{missing} (`nanoexec nodes list` shows the roster)")
    return Resolution(_sorted(nodes), _sorted(unknown - removed))


def fold(names: Iterable[str]) -> str:
    """Names as one node set: ``web[01-03]``."""
    return str(_nodeset_of(names))


def covers(expression: str, nodes: str) -> bool:
    """Whether a trigger's node set holds nothing but what ``expression`` means, groups aside. Raises `TargetError`."""
    if EVERY_NODE in (nodes, expression):
        return nodes == expression
    _check_size(nodes)
    names = frozenset(_parse(nodes))
    return "@" in expression or frozenset(resolve(expression, names, {}).nodes) == names


def contains(nodes: str, name: str) -> bool:
    """Whether the folded set in a trigger names this node. Raises `TargetError`."""
    if nodes in (EVERY_NODE, name):
        return True
    _check_size(nodes)
    return name in _parse(nodes)


def _terms(
    expression: str, roster: frozenset[str], groups: Mapping[str, str], inside: tuple[str, ...]
) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """What the terms take, what they remove, and which names they give that are on no roster."""
    if not expression or len(expression) > MAX_EXPRESSION or not _ALLOWED.fullmatch(expression):
        shown = expression if len(expression) <= 80 else expression[:77] + "..."  # noqa: PLR2004 - a line of terminal
        raise TargetError(
            f"target {shown!r} cannot be read: write ALL, a name, web[01-20], web* or @group, joined by commas"
        )
    taken: set[str] = set()
    removed: set[str] = set()
    unknown: set[str] = set()
    for term in _split(expression):
        names, strange = _term(term.removeprefix("!"), roster, groups, inside)
        (removed if term.startswith("!") else taken).update(names)
        if not term.startswith("!"):
            unknown |= strange
    if all(term.startswith("!") for term in _split(expression)):
        taken |= roster
    return frozenset(taken), frozenset(removed), frozenset(unknown)


def _term(
    term: str, roster: frozenset[str], groups: Mapping[str, str], inside: tuple[str, ...]
) -> tuple[frozenset[str], frozenset[str]]:
    if not term or "!" in term:
        raise TargetError("target has an empty term, or a ! that stands before nothing")
    if term == EVERY_NODE:
        return roster, frozenset()
    if term.startswith("@"):
        return _group(term[1:], roster, groups, inside)
    _check_size(term)
    found: set[str] = set()
    unknown: set[str] = set()
    for name in _parse(term.lower()):
        if "*" in name or "?" in name:
            found.update(fnmatch.filter(roster, name))
        elif name in roster:
            found.add(name)
        else:
            unknown.add(name)
    return frozenset(found), frozenset(unknown)


def _group(
    name: str, roster: frozenset[str], groups: Mapping[str, str], inside: tuple[str, ...]
) -> tuple[frozenset[str], frozenset[str]]:
    if name not in groups:
        known = ", ".join(f"@{group}" for group in sorted(groups)) or "none"
        raise TargetError(f"target names the unknown group @{name}: hub.toml defines {known}")
    if name in inside or len(inside) >= _MAX_GROUP_DEPTH:
        raise TargetError(f"hub.toml: groups.{name}: contains itself, or is nested over {_MAX_GROUP_DEPTH} deep")
    try:
        taken, removed, unknown = _terms(groups[name], roster, groups, (*inside, name))
    except TargetError as error:
        raise TargetError(f"hub.toml: groups.{name}: {error}") from None
    return taken - removed, unknown - removed


def _split(expression: str) -> list[str]:
    """At commas that stand outside brackets."""
    return re.split(r",(?![^\[\]]*\])", expression)


def _check_size(expression: str) -> None:
    """Refuse a set that would expand to more than `MAX_NODES`, before it does."""
    if len(expression) > MAX_EXPRESSION * 16:
        raise TargetError(f"node set of {len(expression)} characters is too long")
    for term in _split(expression):
        count = 1
        for bracket in _BRACKETS.findall(term):
            count *= sum(_range_size(part) for part in bracket.split(","))
            if count > MAX_NODES:
                raise TargetError(f"node set {term!r} means more than {MAX_NODES} nodes")


def _range_size(part: str) -> int:
    match = _RANGE.fullmatch(part)
    if not match:
        raise TargetError(f"range {part!r} in a node set cannot be read: write it like [01-20] or [1,3,5-9]")
    first, last, step = match[1], match[2] or match[1], int(match[3] or 1)
    if int(last) < int(first) or step == 0:
        raise TargetError(f"range {part!r} in a node set goes nowhere: write it like [01-20]")
    return (int(last) - int(first)) // step + 1


def _parse(expression: str) -> Any:
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException  # noqa: PLC0415 - 20 ms, seldom needed

    try:
        return NodeSet(expression, resolver=RESOLVER_NOGROUP)
    except (NodeSetException, ValueError) as error:
        raise TargetError(f"node set {expression!r} cannot be read: {error}") from None


def _nodeset_of(names: Iterable[str]) -> Any:
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet  # noqa: PLC0415 - as above

    return NodeSet.fromlist(list(names), resolver=RESOLVER_NOGROUP)


def _sorted(names: Collection[str]) -> tuple[str, ...]:
    return tuple(_nodeset_of(names)) if len(names) > 1 else tuple(names)
