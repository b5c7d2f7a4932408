"""Results as text: folded, failures first, and without power over the operator's terminal."""

import json
import os
import re
from collections.abc import Iterator
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoexec.cli import render
from nanoexec.model import DeliveryState, Outcome, Output, Run
from tests.support.fake_hub import ID, make_delivery

pytestmark = pytest.mark.node

OK, BAD = Outcome.SUCCEEDED, Outcome.FAILED


@pytest.fixture
def terminal() -> Iterator[TextIO]:
    """A real terminal to write to."""
    keeper, end = os.openpty()
    with os.fdopen(end, "w") as stream:
        yield stream
    os.close(keeper)


def test_alike_results_are_folded_under_their_node_set() -> None:
    alike = [make_delivery(f"web0{n}", outcome=OK, text="up 3 days\n", duration=0.5) for n in (3, 1, 2)]
    assert render.results(alike, colour=False) == ["web[01-03] (3)  succeeded  500ms", "    up 3 days"]


def test_a_difference_in_output_reason_or_outcome_keeps_nodes_apart() -> None:
    lines = render.results(
        [
            make_delivery("a", outcome=OK, text="1"),
            make_delivery("b", outcome=OK, text="2"),
            make_delivery("c", outcome=BAD, text="1", reason="exit status 1"),
            make_delivery("d", outcome=BAD, text="1", reason="exit status 2"),
            make_delivery("e", outcome=OK, text="1", changed=True),
        ],
        colour=False,
    )
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == ["c", "d", "a", "b", "e"]
    assert "c  failed: exit status 1" in lines
    assert "e  changed" in lines


def test_failures_come_first_then_refusals_then_the_rest() -> None:
    mixed = [
        make_delivery("a", outcome=OK),
        make_delivery("b", DeliveryState.EXPIRED),
        make_delivery("c", DeliveryState.REFUSED),
        make_delivery("d", outcome=Outcome.TIMED_OUT),
        make_delivery("e", outcome=BAD),
        make_delivery("f", DeliveryState.LOST),
    ]
    assert [line.split()[0] for line in render.results(mixed, colour=False)] == ["e", "d", "f", "c", "b", "a"]


def test_a_folded_group_says_how_long_the_quickest_and_the_slowest_took() -> None:
    pair = [make_delivery("a1", outcome=OK, duration=2.0), make_delivery("a2", outcome=OK, duration=90.0)]
    assert render.results(pair, colour=False) == ["a[1-2] (2)  succeeded  2s to 1m 30s"]


@pytest.mark.parametrize("evil", ["\x1b]0;owned\x07", "\x1b[2J", "a\rb", "\x9b31m", "\u202etxt", "\x00"])
def test_what_a_node_prints_cannot_drive_the_terminal(evil: str) -> None:
    lines = render.results([make_delivery("web1", outcome=OK, text=f"before{evil}after\n")], colour=False)
    assert all(line.isprintable() for line in lines)
    assert "before" in " ".join(lines)
    assert "after" in " ".join(lines)


def test_what_a_node_gives_as_a_reason_cannot_either() -> None:
    (line,) = render.results([make_delivery("web1", DeliveryState.REFUSED, reason="no\x1b[2Jway")], colour=False)
    assert line.isprintable()


@given(st.text())
def test_any_text_becomes_printable_and_keeps_its_length(text: str) -> None:
    shown = render.printable(text)
    assert len(shown) == len(text)
    assert shown.replace("\t", "").isprintable()


@pytest.mark.parametrize("seconds", [-1e11, -1e12, 3e11, 1e300])
def test_a_time_that_no_calendar_has_is_shown_all_the_same(seconds: float) -> None:
    assert render.moment(seconds) == render.to_the_millisecond(seconds) == f"{seconds:.0f} s"


def test_json_on_a_terminal_cannot_drive_it_and_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    said = "".join(map(chr, range(0x100))) + "Grüße \N{GRINNING FACE}"
    render.print_json({"text": said}, indent=None)
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"text": said}
    assert "Grüße" in printed
    assert render.printable(printed.rstrip("\n").replace("\xa0", "").replace("\xad", "")) == (
        printed.rstrip("\n").replace("\xa0", "").replace("\xad", "")
    )


def test_a_cut_output_says_where_and_how_much_was_left_out() -> None:
    output = Output(head=b"first\n", tail=b"last\n", size=1011)
    run = Run(id=ID, action="a", cause="trigger", by="root", requested=1.0, outcome=OK, output=output)
    assert render.plain(run)["output"] == {"text": output.text(), "size": 1011, "cut": 1000}
    assert "[... 1000 bytes cut ...]" in output.text()


def test_json_has_every_key_and_plain_values_only() -> None:
    built = render.plain(make_delivery("web1"))
    assert built == {
        "trigger": ID,
        "node": "web1",
        "state": "finished",
        "updated": 1001.0,
        "reason": "",
        "run": None,
        "cancelled": None,
        "canceller": "",
    }
    assert type(built["state"]) is str


def test_a_terminal_gets_colour_and_a_pipe_does_not(terminal: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert render.wants_colour(terminal)
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as pipe:
        assert not render.wants_colour(pipe)
    os.close(reader)


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_an_owner_who_wants_no_colour_gets_none(
    terminal: TextIO, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    assert not render.wants_colour(terminal)


def test_without_colour_there_is_no_escape_and_with_it_the_text_is_the_same() -> None:
    some = [make_delivery("a", outcome=BAD, reason="exit status 1"), make_delivery("b", outcome=OK)]
    plain, painted = render.results(some, colour=False), render.results(some, colour=True)
    assert not any("\x1b" in line for line in plain)
    assert all("\x1b" in line for line in painted)
    assert [re.sub(r"\x1b\[\d+m", "", line) for line in painted] == plain


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert render.table([("A", "B"), ("long", "x")]) == ["A     B", "long  x"]
