"""The help of every command: it ends with a worked example, and costs no library that it does not need."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from nanoexec.cli.app import program
from tests.support.command_line import ENVIRONMENT

pytestmark = pytest.mark.node

HEAVY = ("pynng", "cryptography", "sqlalchemy", "alembic")
# Runs one help after another in one process: for each, what it printed and which of the heavy libraries are in by then.
PROGRAM = """
import contextlib, io, json, sys
sys.argv[0] = "nanoexec"
from nanoexec.cli import main
commands, heavy = json.loads(sys.argv[1]), json.loads(sys.argv[2])
seen = []
for words in commands:
    sys.argv[1:] = [*words, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        main()
    seen.append([printed.getvalue(), [name for name in heavy if name in sys.modules]])
print(json.dumps(seen))
"""


def commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and group, by the words that lead to it."""
    yield words
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*words, name))


ALL = list(commands(typer.main.get_command(program())))


@pytest.fixture(scope="module")
def helps() -> dict[tuple[str, ...], tuple[str, list[str]]]:
    """Help and heavy libraries of each command."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(ALL), json.dumps(HEAVY)],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
        env=ENVIRONMENT,
    )
    return {words: (text, heavy) for words, (text, heavy) in zip(ALL, json.loads(done.stdout), strict=True)}


def test_the_walk_finds_the_commands() -> None:
    assert {("trigger",), ("doctor",), ("listen",), ("hub", "init"), ("actions", "check"), ("agent", "join")} < set(ALL)


@pytest.mark.parametrize("words", [words for words in ALL if words], ids=" ".join)
def test_a_command_that_is_typed_is_as_in_the_whole_program(words: tuple[str, ...]) -> None:
    assert words in set(commands(typer.main.get_command(program(words))))


def test_a_command_that_is_typed_does_not_wait_for_the_others() -> None:
    code = "import sys; from nanoexec.cli.app import program; program(['trigger', 'ALL:uptime']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    loaded = {name for name in done.stdout.split() if name.startswith("nanoexec.cli.")}
    assert loaded <= {f"nanoexec.cli.{name}" for name in ("app", "options", "plain", "trigger")}


def test_a_trigger_without_arguments_waits_for_nothing_that_only_a_node_reads(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "nanoexec", "trigger", "--root", str(tmp_path), "ALL:uptime"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "nanoexec.cli.wait" in loaded
    assert loaded.isdisjoint({"tomllib", "nanoexec.actions"})


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_imports_neither_the_transport_nor_cryptography_nor_the_store(
    helps: dict[tuple[str, ...], tuple[str, list[str]]], words: tuple[str, ...]
) -> None:
    text, heavy = helps[words]
    assert "Usage: nanoexec" in text
    assert heavy == []


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_ends_with_a_worked_example_line_by_line(
    helps: dict[tuple[str, ...], tuple[str, list[str]]], words: tuple[str, ...]
) -> None:
    lines = [line.strip() for line in helps[words][0].rstrip().splitlines()]
    examples = lines[lines.index("Example:") + 1 :]
    assert examples
    assert all(line.startswith("nanoexec ") for line in examples)
    if words:
        assert any(line.startswith(f"nanoexec {' '.join(words)}") for line in examples)
