"""Whatever fails before the command has started: the shell runs the original, and nothing runs twice."""

import contextlib
import os
import signal
import sqlite3
import subprocess
from typing import Any

import pytest

from nanoexec.model import Outcome
from nanoexec.runner.tables import VERSION
from tests.support.cron import ScheduledNode, from_shell, start_shell
from tests.support.runner import until

pytestmark = pytest.mark.node


def broken_import(node: ScheduledNode) -> None:
    node.install("sys.modules['nanoexec.run.slot'] = None")


def broken_run_path(node: ScheduledNode) -> None:
    node.install("sys.modules['nanoexec.run.scheduled'] = None")


def faulty_configuration(node: ScheduledNode) -> None:
    node.paths.agent_config.write_text("hub = ")


def faulty_joined(node: ScheduledNode) -> None:
    node.paths.joined.write_text("hub = 1")


def faulty_manifest(node: ScheduledNode) -> None:
    node.action("probe", "true", more='[fallback]\npolicy = "sometimes"')


def no_manifest(node: ScheduledNode) -> None:
    (node.paths.actions / "probe.toml").unlink()


def no_journal_but_rubbish(node: ScheduledNode) -> None:
    node.paths.journal.parent.mkdir(parents=True)
    node.paths.journal.write_bytes(b"rubbish" * 1000)


def newer_journal(node: ScheduledNode) -> None:
    with node.journal():
        pass
    with sqlite3.connect(node.paths.journal) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def no_place_for_a_journal(node: ScheduledNode) -> None:
    (node.root / "var").write_text("not a directory")


def no_place_for_locks(node: ScheduledNode) -> None:
    (node.root / "run").write_text("not a directory")


def not_executable(node: ScheduledNode) -> None:
    node.launcher.chmod(0o644)


def not_python(node: ScheduledNode) -> None:
    node.launcher.write_text("#!/nonexistent/python3\n")


def removed(node: ScheduledNode) -> None:
    node.launcher.unlink()


@pytest.mark.parametrize(
    ("breakage", "lines"),
    [
        (broken_import, None),
        (broken_run_path, 1),
        (faulty_configuration, 1),
        (faulty_joined, 1),
        (faulty_manifest, 1),
        (no_manifest, 1),
        (no_journal_but_rubbish, 1),
        (newer_journal, 1),
        (no_place_for_a_journal, 1),
        (no_place_for_locks, 1),
        (not_executable, 0),
        (not_python, None),
        (removed, 0),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_what_cannot_start_leaves_the_original_to_the_shell(
    node: ScheduledNode, breakage: Any, lines: int | None
) -> None:
    command = node.note("; cat; exit 7")
    breakage(node)
    complaints = node.root / "complaints"
    with complaints.open("wb") as errors:
        assert from_shell(command, stderr=errors, input=b"given") == (7, b"given")
    assert node.notes == ["original"]
    if lines is not None:
        said = complaints.read_text().splitlines()
        assert len(said) == lines, said
        assert all(line.startswith("nanoexec-run: ") for line in said)


def test_a_journal_of_a_newer_nanoexec_is_said_in_one_line_and_the_original_runs(node: ScheduledNode) -> None:
    command = node.note()
    newer_journal(node)
    complaints = node.root / "complaints"
    with complaints.open("wb") as errors:
        from_shell(command, stderr=errors)
    newer = f"the journal has version 99, this side knows {VERSION}: upgrade nanoexec"
    said = f"nanoexec-run: {node.paths.journal}: {newer}\n"
    assert complaints.read_text() == said
    assert node.notes == ["original"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.parametrize("satisfied", [False, True])
def test_on_a_full_disk_the_original_runs(node: ScheduledNode, *, satisfied: bool) -> None:
    command = node.note()
    state = node.root / "var/lib/nanoexec"
    state.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", state], check=True)
    try:
        if satisfied:
            node.local()
            assert from_shell(command) == (0, b"")
            assert "original" not in node.notes
        with (state / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(4096))
        status, said = from_shell(command)
        assert (status, said.count(b"\n"), b"cannot use the journal" in said) == (0, 1, True), said
    finally:
        subprocess.run(["umount", state], check=True)
    assert node.notes[-1] == "original"


def test_killed_before_it_has_started_anything_the_original_runs(node: ScheduledNode) -> None:
    command = node.note()
    node.install("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    from_shell(command, stderr=subprocess.DEVNULL)
    assert node.notes == ["original"]


def test_killed_while_the_command_runs_nothing_runs_twice(node: ScheduledNode) -> None:
    command = node.gate()
    shell = start_shell(command)
    until(lambda: node.notes, "it runs")
    (run,) = node.runs()
    os.kill(run.supervisor, signal.SIGKILL)
    shell.communicate(timeout=30)
    assert shell.returncode != 0
    node.let_go()
    assert len(node.notes) == 1
    node.local()
    assert next(found for found in node.runs() if found.id == run.id).outcome is Outcome.INTERRUPTED
