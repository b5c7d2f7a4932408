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
MAX_SET: Final = 16 * MAX_EXPRESSION  # characters of the folded set in a trigger
MAX_NODES: Final = 100_000
_SHOWN: Final = 80  # characters of an expression in a message: a line of terminal
_MARKS: Final = re.compile(r"[\[\],]")
_ALLOWED: Final = re.compile(r"[A-Za-z0-9._,*?@!\[\]/-]+")
_BRACKETS: Final = re.compile(r"\[([^\[\]]*)\]")
_RANGE: Final = re.compile(r"(\d{1,100})(?:-(\d{1,100})(?:/(\d{1,15}))?)?")  # as many digits as a name may have
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
        raise NoTargetError(
            f"target {_short(expression)!r} matches no node{missing} (`nanoexec nodes list` shows the roster)"
        )
    return Resolution(_sorted(nodes), _sorted(unknown - removed))


def fold(names: Iterable[str]) -> str:
    """Names as one node set: ``web[01-03]``."""
    return str(_nodeset_of(names))


def members(nodes: str, roster: Collection[str]) -> tuple[NodeName, ...]:
    """Those on the roster that a trigger's node set names, in natural order; it may be longer than an expression.

    Raises `TargetError`, and `NoTargetError` when there are none.
    """
    found = set(roster) if nodes == EVERY_NODE else set(roster).intersection(_measured(nodes))
    if not found:
        raise NoTargetError(f"target {_short(nodes)!r} matches no node (`nanoexec nodes list` shows the roster)")
    return _sorted(found)


def covers(expression: str, nodes: str) -> bool:
    """Whether a trigger's node set holds nothing but what ``expression`` means, groups aside. Raises `TargetError`."""
    if EVERY_NODE in (nodes, expression):
        return nodes == expression
    names = frozenset(_measured(nodes))
    return "@" in expression or frozenset(resolve(expression, names, {}).nodes) == names


def contains(nodes: str, name: str) -> bool:
    """Whether the folded set in a trigger names this node. Raises `TargetError`."""
    if nodes in (EVERY_NODE, name):
        return True
    return name in _measured(nodes)


def _terms(
    expression: str, roster: frozenset[str], groups: Mapping[str, str], inside: tuple[str, ...]
) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """What the terms take, what they remove, and which names they give that are on no roster."""
    if not expression or len(expression) > MAX_EXPRESSION or not _ALLOWED.fullmatch(expression):
        raise TargetError(
            f"target {_short(expression)!r} cannot be read: "
            "write ALL, a name, web[01-20], web* or @group, joined by commas"
        )
    taken: set[str] = set()
    removed: set[str] = set()
    unknown: set[str] = set()
    terms = _split(expression)
    _check_size(terms)
    for term in terms:
        names, strange = _term(term.removeprefix("!"), roster, groups, inside)
        if term.startswith("!"):
            removed |= names | strange
        else:
            taken |= names
            unknown |= strange
    if all(term.startswith("!") for term in terms):
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
    """At commas that stand outside brackets. One pass: the set in a trigger may have thousands of terms."""
    terms, start, inside = [], 0, False
    for mark in _MARKS.finditer(expression):
        if mark[0] != ",":
            inside = mark[0] == "["
        elif not inside:
            terms.append(expression[start : mark.start()])
            start = mark.end()
    return [*terms, expression[start:]]


def _check_size(terms: Iterable[str]) -> None:
    """Refuse what would expand to more than `MAX_NODES`, before it does."""
    total = 0
    for term in terms:
        count = 1
        for bracket in _BRACKETS.findall(term):
            count *= sum(_range_size(part) for part in bracket.split(","))
            if count > MAX_NODES:
                break
        total += count
        if total > MAX_NODES:
            raise TargetError(f"target means more than {MAX_NODES} nodes at {_short(term)!r}")


def _range_size(part: str) -> int:
    match = _RANGE.fullmatch(part)
    if not match:
        raise TargetError(f"range {_short(part)!r} in a node set cannot be read: write it like [01-20] or [1,3,5-9]")
    first, last, step = match[1], match[2] or match[1], int(match[3] or 1)
    if int(last) < int(first) or step == 0:
        raise TargetError(f"range {part!r} in a node set goes nowhere: write it like [01-20]")
    return (int(last) - int(first)) // step + 1


def _measured(nodes: str) -> Any:
    """The set in a trigger, which may be long, if it is not too large."""
    if len(nodes) > MAX_SET:
        raise TargetError(f"node set of {len(nodes)} characters is too long: at most {MAX_SET} are accepted")
    if not _ALLOWED.fullmatch(nodes):
        raise TargetError(f"node set {_short(nodes)!r} cannot be read: it has characters that no name has")
    _check_size(_split(nodes))
    return _parse(nodes)


def _parse(expression: str) -> Any:
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException  # noqa: PLC0415 - 20 ms, seldom needed

    try:
        return NodeSet(expression, resolver=RESOLVER_NOGROUP)
    except (NodeSetException, ValueError) as error:
        raise TargetError(f"node set {_short(expression)!r} cannot be read: {_short(str(error))}") from None


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _nodeset_of(names: Iterable[str]) -> Any:
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet  # noqa: PLC0415 - as above

    return NodeSet.fromlist(list(names), resolver=RESOLVER_NOGROUP)


def _sorted(names: Collection[str]) -> tuple[str, ...]:
    return tuple(_nodeset_of(names)) if len(names) > 1 else tuple(names)
