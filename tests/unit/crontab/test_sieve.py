"""Lines that need not be read."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoexec.actions import Cron, Manifest
from nanoexec.crontab.commands import Claims
from nanoexec.crontab.lines import parse
from nanoexec.crontab.sieve import Sieve, needs

pytestmark = pytest.mark.node


@pytest.mark.parametrize(
    "pattern",
    [
        r"(^|[\s/])slaughter(\s|$)",
        r"slaughter",
        r"^(?:/\S*/)?slaughters?$",
        r"[|]slaughter",
        r"\|slaughter",
        r"(a|b)slaughter",
    ],
)
def test_a_word_outside_of_groups_and_alternatives_is_needed(pattern: str) -> None:
    assert needs(pattern, "slaughter")


@pytest.mark.parametrize(
    "pattern",
    [
        "slaughter|puppet",
        "(slaughter|puppet)",
        "(slaughter)?",
        "slaughter?",
        "slaughter*",
        "slaughter{0,1}",
        "[slaughter]",
        "s.aughter",
        "(?i)slaughter",
        "(?i:x)slaughter",
        r"slaught\er",
        "",
    ],
)
def test_in_doubt_a_word_is_not_needed(pattern: str) -> None:
    assert not needs(pattern, "slaughter")


PATTERNS = st.text("ab|()?*[]^.\\{}1-", max_size=12)


@given(PATTERNS, st.sampled_from(["a", "ab", "ba"]), st.text("abAB-1", max_size=8))
def test_a_needed_word_is_in_every_text_that_matches(pattern: str, word: str, text: str) -> None:
    try:
        expression = re.compile(pattern)
    except (re.error, FutureWarning):  # not a pattern, or one that means something else some day
        return
    if needs(pattern, word) and expression.search(text):
        assert word in text


def test_only_lines_that_name_a_tool_pass() -> None:
    sieve = Sieve([Manifest(name="slaughter", command=("/sbin/slaughter",), cron=Cron(match="slaughter"))])

    assert sieve.passes(b"17 * * * * root /sbin/slaughter\n")
    assert sieve.passes(b"17 * * * * root nanoexec-run --scheduled other; true\n")
    assert not sieve.passes(b"17 * * * * root /sbin/other\n")


def test_an_expression_that_says_nothing_for_certain_lets_every_line_through() -> None:
    manifest = Manifest(name="tool", command=("/sbin/tool",), cron=Cron(match="/(old|new)-thing"))
    (line,) = parse(b"17 * * * * root /sbin/old-thing\n", system=True)

    assert Claims([manifest]).verdict(line).action == "tool"
    assert Sieve([manifest]).passes(line.raw)
    assert Sieve([manifest]).passes(b"17 * * * * root /sbin/other\n")


def test_without_actions_no_line_passes() -> None:
    assert not Sieve([]).passes(b"17 * * * * root /sbin/slaughter\n")
