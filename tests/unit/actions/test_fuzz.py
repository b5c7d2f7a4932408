"""Whatever a manifest or an argument contains: only declared errors, and nothing in argv that was not declared."""

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoexec.actions import Argument, Kind, Manifest, Rule, Rules, Source, bind, merge, parse_pairs
from nanoexec.actions.checking import check
from nanoexec.errors import RefusedError, UsageError

pytestmark = pytest.mark.node

TABLES = (Manifest, Argument, Rules, Rule)
KEYS = st.sampled_from(["override", *(field for table in TABLES for field in table.__struct_fields__)])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.datetimes()
    | st.sampled_from(
        ["x", "true", "{}", "--a={}", "string", "integer", "boolean", "choice", "30m", "[a-z]+", "(", "-1"]
    )
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=6), inner, max_size=6),
    max_leaves=30,
)
ARGUMENTS = st.dictionaries(KEYS, VALUES, max_size=6)
KINDS = st.sampled_from([
    Argument(argv=("-a", "{}")),
    Argument(argv=("{}", "{}{}")),
    Argument(pattern="(?s).*", argv=("--a={}=a",)),
    Argument(pattern="(?s).*", argv=("{}",)),
    Argument(type=Kind.INTEGER, argv=("-n{}",)),
    Argument(type=Kind.INTEGER, minimum=-5, maximum=5, argv=("{}",)),
    Argument(type=Kind.BOOLEAN, argv=("-b", "--bb")),
    Argument(type=Kind.CHOICE, choices=("a", "{}"), default="a", argv=("--c={}",)),
])  # fmt: skip
SOUND_ARGUMENTS = KINDS.map(msgspec.to_builtins)
DOCUMENTS = st.fixed_dictionaries(
    {"name": st.just("x"), "command": st.just(["x", "lit{}eral"])},
    optional={
        "arguments": st.dictionaries(st.sampled_from(["a", "b-c", "tags"]), SOUND_ARGUMENTS | ARGUMENTS, max_size=2),
        "outcome": st.just({"failed": {"output": ["[a-z]"], "exit": [1]}}) | VALUES,
        "timeout": st.just("30m") | VALUES,
    },
) | st.fixed_dictionaries(
    {"name": st.just("x"), "command": VALUES},
    optional={"env": VALUES, "extra": VALUES, "requires": VALUES, "user": VALUES, "cron": VALUES},
)


def attempt(function: Callable[..., Any], *arguments: object) -> tuple[Any, str]:
    """What the function returns, or None and its complaint; any error but these two is a failure of the test."""
    try:
        return function(*arguments), ""
    except (RefusedError, UsageError) as error:
        return None, str(error)


@given(DOCUMENTS)
@settings(max_examples=200, deadline=None)
def test_any_document_is_a_manifest_or_a_list_of_faults(document: dict[str, object]) -> None:
    manifest, faults = check(document, lambda _: "x.toml")
    assert (manifest is None) is bool(faults)
    for fault in faults:
        assert fault.message
        assert len(str(fault).splitlines()) == 1
    if manifest:
        assert manifest.command
        assert manifest.timeout_seconds > 0
        for pattern in manifest.outcome.failed.output:
            re.compile(pattern)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_a_catalog(data: bytes) -> None:
    catalog = merge([[Source(file="x.toml", data=b'name = "x"\n' + data)], [Source(file="own/x.toml", data=data)]])
    assert catalog.faults
    assert all(fault.file in {"x.toml", "own/x.toml"} for fault in catalog.faults)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), KINDS), max_size=3, unique_by=lambda pair: pair[0]), st.data()
)
@settings(max_examples=300, deadline=None)
def test_argv_is_the_command_then_whole_templates_each_filled_with_one_value(
    arguments: list[tuple[str, Argument]], data: st.DataObject
) -> None:
    manifest = Manifest(name="x", command=("x", "{}"), arguments=dict(arguments))
    texts = st.text(max_size=20) | st.integers().map(str) | st.sampled_from(["true", "a", "{}", "-x", ""])
    names = st.sampled_from([name for name, _ in arguments] or ["other"]) | st.sampled_from(["a", "other"])
    values = data.draw(st.dictionaries(names, texts, max_size=4))
    argv, complaint = attempt(bind, manifest, values)
    if argv is None:
        assert len(complaint.splitlines()) == 1
        return
    assert set(values) <= set(manifest.arguments)
    rest = list(argv)
    for literal in manifest.command:
        assert rest.pop(0) == literal
    for name, argument in manifest.arguments.items():
        value = values.get(name, argument.default)
        if value is None or (argument.type is Kind.BOOLEAN and value == "false"):
            continue
        for template in argument.argv:
            element = rest.pop(0)
            assert element == str(value).join(template.split("{}"))
            assert not any(sign in element for sign in "\0\n\r")
            assert not (template.startswith("{}") and element.startswith("-"))
    assert rest == []


@given(st.lists(st.text(max_size=10), max_size=4))
def test_any_pairs_are_read_or_a_usage_error(pairs: list[str]) -> None:
    arguments, complaint = attempt(parse_pairs, pairs)
    if arguments is None:
        assert len(complaint.splitlines()) == 1
    else:
        assert [f"{key}={value}" for key, value in arguments.items()] == pairs
