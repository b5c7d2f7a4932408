"""The documents say what the code does: messages, states, limits, commands, exit codes, links."""

import re
import shlex
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

from nanoexec.agent import core as agent_core
from nanoexec.cli.app import program
from nanoexec.config import HubConfig
from nanoexec.errors import ExitCode
from nanoexec.hub import control as hub_control
from nanoexec.hub import core, echo, ledger, roster, service
from nanoexec.model import MAX_LIFETIME, TRANSITIONS, ActionOffer, DeliveryState, Order, Output, Run, Trigger, Value
from nanoexec.run.local import HELP
from nanoexec.runner import order
from nanoexec.transport import limits
from nanoexec.wire import control, network, runner, stream

TOP = Path(__file__).parents[2]
PROTOCOL = (TOP / "docs/protocol.md").read_text()
DOCUMENTS = sorted(
    [
        *TOP.glob("*.md"),
        *TOP.glob("docs/**/*.md"),
        TOP / "integrations/README.md",
        *TOP.glob("packaging/*.md"),
    ]
)
PAGES = [document for document in DOCUMENTS if document.parent.name != "integrations"]
ADRS = sorted((TOP / "docs/adr").glob("*.md"))
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of every table under a header row that begins with this cell, header and ruler left out."""
    found: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if cells[:1] == [heading]:
            inside = True
        elif not cells:
            inside = False
        elif inside and not cells[0].startswith("--"):
            found.append(cells)
    return found


def codes(cell: str) -> list[str]:
    return _CODE.findall(cell)


def messages() -> dict[str, type[Value]]:
    """Every message of every wire, by its kind."""
    found: dict[str, type[Value]] = {}
    for base in (network.Message, control.ControlMessage, runner.RunnerMessage):
        for message in base.__subclasses__():
            kind = str(message.__struct_config__.tag)
            assert kind not in found, "the page could not tell two messages of one kind apart"
            found[kind] = message
    return found


# The protocol page


def test_every_message_is_in_the_tables_once_with_exactly_its_fields() -> None:
    documented = [(codes(row[0])[0], codes(row[2])) for row in rows(PROTOCOL, "kind")]
    assert sorted(documented) == sorted((kind, list(message.__struct_fields__)) for kind, message in messages().items())


def test_every_answer_that_is_named_is_a_message_of_its_own() -> None:
    table = {codes(row[0])[0]: row for row in rows(PROTOCOL, "kind")}
    answers = {answer for row in table.values() for answer in codes(row[3])}
    assert answers <= set(table)
    assert {kind for kind, row in table.items() if row[3] != "none"} >= {"submit", "hello", "join", "start"}


def test_the_transition_table_is_the_one_in_the_model() -> None:
    documented = {
        DeliveryState(codes(row[0])[0]): {DeliveryState(word) for word in codes(row[2])}
        for row in rows(PROTOCOL, "state")
    }
    assert documented == {state: set(after) for state, after in TRANSITIONS.items()}


def test_values_that_are_arrays_are_documented_with_their_fields_in_order() -> None:
    arrays = {"trigger": Trigger, "order": Order, "offer": network.Offer, "action offer": ActionOffer, "output": Output}
    assert all(value.__struct_config__.array_like for value in arrays.values())
    documented = {row[0]: tuple(codes(row[1])) for row in rows(PROTOCOL, "value")}
    assert documented == {name: value.__struct_fields__ for name, value in arrays.items()}


def test_the_fields_of_a_run_are_all_named() -> None:
    (paragraph,) = (part for part in PROTOCOL.split("\n\n") if part.startswith("A run is a map:"))
    assert tuple(codes(paragraph)[: len(Run.__struct_fields__)]) == Run.__struct_fields__


def test_numbers_in_the_text_are_those_in_the_code() -> None:
    text = " ".join(PROTOCOL.split())
    steps = [min(ledger.FIRST_RETRY * 2.0**tries, ledger.LAST_RETRY) for tries in range(6)]
    assert steps == [3, 6, 12, 24, 48, 60]
    assert "3 s after the last time, then 6, 12, 24, 48, and every 60 s" in text
    assert ledger.LOST_AFTER == 86400
    assert "a day after `expires`" in text
    assert core.SILENT_AFTER == agent_core.SILENT_AFTER == echo.DEAF_AFTER == 2.5
    assert "after 2.5 intervals without" in text
    assert HubConfig(name="hub").beacon_interval * 2.5 + service.TICK == 38.5
    assert "after 38.5 s at most" in text
    assert roster.HEARD_EVERY == 300
    assert "every five minutes at least" in text
    assert core.OFFERS_AT_ONCE == 512 << 10
    assert "512 KiB of orders" in text
    assert core.ISSUED_WITHIN == 600
    assert "within ten minutes" in text
    assert f"(`MAX_FRAME`) | {network.MAX_FRAME:,} bytes" in text
    assert f"(`MAX_MESSAGE`) | {stream.MAX_MESSAGE:,} bytes" in text
    assert f"{limits.MAX_PUBLISHED - network.MAX_FRAME} bytes" in text
    assert hub_control.UNREAD == 64 << 20
    assert "64 MiB; with more the hub hangs up" in text
    assert limits.PUBLISH_QUEUE == limits.RECEIVE_QUEUE == 256
    assert "| 256 each; then the oldest is dropped |" in text
    assert f"protocol version **{network.PROTOCOL}**" in text
    assert f"one version byte (**{stream.VERSION}**)" in text


def test_the_manual_has_the_numbers_of_the_code() -> None:
    manual = (TOP / "docs/man/nanoexec.toml.5.rst").read_text()
    assert core.SILENT_AFTER == 2.5
    assert "silent for two and a half of them counts as away" in manual
    commands = (TOP / "docs/man/nanoexec.1.rst").read_text()
    assert order.EXEC_TIMEOUT == "10m"
    assert "It gets ten minutes at most." in commands
    assert MAX_LIFETIME == 30 * 86400
    assert "Nodes that are away get it until then; 30d at most." in commands


# Commands, exit codes, links


def command_at(words: list[str]) -> tuple[Any, list[str]]:
    """The command that these words name, and what is left of them."""
    found: Any = typer.main.get_command(program())
    while words and hasattr(found, "commands"):
        assert words[0] in found.commands or words[0].startswith("-"), f"no command {words[0]!r}"
        if words[0].startswith("-"):
            break
        found, words = found.commands[words[0]], words[1:]
    return found, words


def mentioned() -> list[tuple[str, str]]:
    """Every command line that a document shows, in a block or within a sentence."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text()
        lines = [line.strip() for _, block in _BLOCK.findall(text) for line in block.splitlines()]
        lines = [re.sub(r"^(\$|#|runuser -u \w+ --) ", "", re.sub(r"^[$#] ", "", line)) for line in lines]
        lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", _BLOCK.sub("", text))]
        found += [(document.name, line) for line in lines if line.startswith(("nanoexec ", "nanoexec-run "))]
    return found


@pytest.mark.parametrize(("document", "line"), mentioned())
def test_a_command_that_a_document_shows_exists_with_these_options(document: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "nanoexec-run":
        assert all(word in HELP for word in words if word.startswith("-"))
        return
    command, rest = command_at(words[1:])
    if "--" in rest:
        rest = rest[: rest.index("--")]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert {word for word in rest if word.startswith("-")} <= known, document


def test_the_readme_shows_the_way_from_nothing_to_a_result() -> None:
    shown = [line for document, line in mentioned() if document == "README.md"]
    for beginning in ("hub init", "hub serve", "hub token", "agent join", "agent serve", "trigger"):
        assert any(line.startswith(f"nanoexec {beginning}") for line in shown), beginning


def test_the_readme_names_every_exit_code() -> None:
    documented = [int(row[0]) for row in rows((TOP / "README.md").read_text(), "code")]
    assert documented == sorted(ExitCode)


def test_make_targets_that_documents_name_exist() -> None:
    made = set(re.findall(r"^([a-z]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        text = document.read_text()
        named = set(re.findall(r"(?:^|`)make (?:\w+=\S+ )?([a-z]+)", text, re.MULTILINE))
        assert named <= made, document.name


def test_the_action_in_the_readme_has_six_lines_and_no_fault() -> None:
    from nanoexec.actions import Source, bind, merge  # noqa: PLC0415 - only here

    (block,) = (block for kind, block in _BLOCK.findall((TOP / "README.md").read_text()) if kind == "toml")
    assert len(block.splitlines()) == 6
    catalog = merge([[Source(file="disk-space.toml", data=block.encode())]])
    assert catalog.faults == ()
    assert bind(catalog.find("disk-space"), {"path": "/"}) == ("df", "--human-readable", "/")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(TOP)))
def test_links_lead_somewhere(document: Path) -> None:
    text = _BLOCK.sub("", document.read_text())
    for link in _LINK.findall(text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        there = (document.parent / path).resolve() if path else document
        assert there.exists(), link
        assert there.is_relative_to(TOP), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings], link


@pytest.mark.parametrize("document", PAGES, ids=lambda document: str(document.relative_to(TOP)))
def test_prose_fits_120_columns(document: Path) -> None:
    lines = document.read_text().splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


# Decisions


def test_decisions_are_numbered_without_gaps_and_titled_by_their_number() -> None:
    assert [path.name[:4] for path in ADRS] == [f"{number:04d}" for number in range(1, len(ADRS) + 1)]
    for number, path in enumerate(ADRS, 1):
        assert path.read_text().startswith(f"# {number}. ")


@pytest.mark.parametrize("path", ADRS, ids=lambda path: path.name)
def test_a_decision_has_context_decision_and_consequences_on_one_page(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert len(text.splitlines()) <= 60


def test_every_value_on_the_wire_refuses_fields_that_it_does_not_know() -> None:
    """The page promises it for all of them."""
    for kind, message in messages().items():
        assert message.__struct_config__.forbid_unknown_fields, kind
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"kind": "bye", "news": 1}, network.Bye)


def test_what_holds_a_promise_is_there() -> None:
    promises = (TOP / "docs/reliability.md").read_text()
    tests = "".join(file.read_text() for file in (TOP / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", promises))
    assert len(named) > 15
    assert {name for name in named if f"def {name}(" not in tests} == set()
    files = set(re.findall(r"`(tests/[\w/]+\.py)`", promises))
    assert files
    assert {file for file in files if not (TOP / file).exists()} == set()
