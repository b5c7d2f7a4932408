import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from nanoexec.errors import StoreError
from nanoexec.model import Outcome, Output, Run
from nanoexec.runner import process, recovery
from nanoexec.runner.glance import Glance
from nanoexec.runner.journal import MAX_BATCH_BYTES, Journal
from nanoexec.runner.process import boot_id, this_process
from nanoexec.runner.recovery import recover
from tests.support.runner import a_run, no_descriptors

pytestmark = pytest.mark.node
ID = "0123456789abcdef"
KEPT = 90 * 86400.0  # seconds; `journal_days` by default


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state/journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal.open(path, ID) as opened:
        yield opened


def succeeded(run: Run, **fields: Any) -> Run:
    return replace(run, outcome=Outcome.SUCCEEDED, ended=200.0, duration=1.5, status=0, **fields)


def admit(journal: Journal, run: Run, expires: float = 0.0) -> Run | None:
    return journal.admit(run, this_process().ticks, expires)


def test_everything_of_a_run_comes_back_as_it_was(journal: Journal) -> None:
    run = a_run(arguments={"b": "2", "a": "ü"}, command=("/bin/x", "--a", "ü"), started=101.0)
    assert admit(journal, run) is None
    journal.note_pid(run.id, 4711)
    ended = succeeded(run, pid=4711, changed=True, reason="well", output=Output(head=b"\xff\0", tail=b"end", size=99))
    told = journal.finish(ended)
    assert told == journal.find(run.id) == replace(ended, change=3, admitted=1, began=1)


def test_an_id_is_admitted_once_and_the_first_run_is_given_back(journal: Journal) -> None:
    run = a_run()
    assert admit(journal, run) is None
    assert admit(journal, replace(run, by="mallory", started=5.0)) == replace(run, change=1, admitted=1)


class Overtaken(Journal):
    """Between two looks at the file, another process forgets all that it holds."""

    def _commit(self, statement: str, values: Mapping[str, Any]) -> bool:
        changed = super()._commit(statement, values)
        with closing(sqlite3.connect(self._path, isolation_level=None)) as other:
            other.execute("DELETE FROM runs")
        return changed


def test_a_run_that_is_forgotten_the_moment_it_comes_again_is_not_taken_for_admitted(
    journal: Journal, path: Path
) -> None:
    run = a_run()
    admit(journal, run)
    with Overtaken.open(path) as overtaken, pytest.raises(StoreError, match=f"run {run.id} was forgotten just now"):
        admit(overtaken, run)
    assert journal.find(run.id) is None


def test_an_admitted_run_is_on_disk_for_another_process_and_synchronous_is_full(journal: Journal, path: Path) -> None:
    run = a_run(started=1.0)
    admit(journal, run)
    code = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT id, outcome FROM runs').fetchall())"
    seen = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout
    assert seen.strip() == f"[('{run.id}', None)]"
    assert journal._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert journal._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_run_ends_once(journal: Journal) -> None:
    run = a_run(started=1.0)
    admit(journal, run)
    first = journal.finish(succeeded(run))
    assert journal.finish(replace(run, outcome=Outcome.FAILED, ended=300.0)) == first
    assert journal.find(run.id) == first


def test_a_run_that_has_an_outcome_cannot_be_started(journal: Journal) -> None:
    run = a_run()
    admit(journal, run)
    journal.finish(replace(run, outcome=Outcome.INTERRUPTED, ended=2.0))
    with pytest.raises(StoreError, match=f"run {run.id} is not waiting to start"):
        journal.start(run.id, 3.0)


def test_every_commit_gives_its_run_the_next_change_and_moves_the_files_time(journal: Journal, path: Path) -> None:
    first, second = a_run(), a_run()
    seen = [path.stat().st_mtime_ns]
    for step in (
        lambda: admit(journal, first),
        lambda: admit(journal, second),
        lambda: journal.start(first.id, 1.0),
        lambda: journal.note_pid(second.id, 5),
        lambda: journal.finish(succeeded(first)),
    ):
        step()
        seen.append(path.stat().st_mtime_ns)
    assert len(set(seen)) == 6
    assert [(run.id, run.change) for run in journal.changes(0, 10)[0]] == [(second.id, 4), (first.id, 5)]


def test_no_commit_makes_a_table_in_memory(journal: Journal) -> None:
    said: list[str] = []
    journal._connection.set_trace_callback(said.append)
    first, second = a_run(), a_run()
    admit(journal, first)
    admit(journal, second)
    journal.start(first.id, 1.0)
    journal.note_pid(first.id, 5)
    assert journal.note_cancellation(first.id, by="bob", at=2.0)
    assert journal.call_off(second.id, by="bob", at=2.0)
    journal.finish(succeeded(first))
    journal._connection.set_trace_callback(None)
    commits = [statement for statement in said if statement.startswith(("INSERT", "UPDATE"))]
    assert len(commits) == 7
    for statement in commits:
        steps = {row[1] for row in journal._connection.execute(f"EXPLAIN {statement}")}
        assert "MakeRecord" in steps
        assert "OpenEphemeral" not in steps, statement


def test_changes_come_oldest_first_and_say_when_there_are_more(journal: Journal) -> None:
    runs = [a_run() for _ in range(5)]
    for run in runs:
        admit(journal, run)
    found, more = journal.changes(1, 2)
    assert ([run.id for run in found], more) == ([runs[1].id, runs[2].id], True)
    found, more = journal.changes(3, 2)
    assert ([run.id for run in found], more) == ([runs[3].id, runs[4].id], False)


def test_a_batch_of_changes_stays_below_what_a_message_may_hold(journal: Journal) -> None:
    half = Output(head=b"x" * (MAX_BATCH_BYTES // 2), size=MAX_BATCH_BYTES // 2)
    for _ in range(3):
        run = a_run()
        admit(journal, run)
        journal.finish(succeeded(run, output=half))
    found, more = journal.changes(0, 100)
    assert (len(found), more) == (2, True)


def test_the_journal_belongs_to_its_owner_alone_and_can_be_watched_by_others(journal: Journal, path: Path) -> None:
    admit(journal, a_run())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o711
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_journal_keeps_its_name(path: Path) -> None:
    with Journal.open(path, ID) as journal:
        assert journal.id == ID
    with Journal.open(path, "another") as journal:
        assert journal.id == ID


def test_many_processes_make_one_journal(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from nanoexec.runner.journal import Journal\n"
        "print(Journal.open(Path(sys.argv[1]), sys.argv[2]).id)"
    )
    makers = [
        subprocess.Popen([sys.executable, "-c", code, path, f"maker{number}"], stdout=subprocess.PIPE, text=True)
        for number in range(6)
    ]
    assert len({maker.communicate()[0] for maker in makers}) == 1
    assert all(maker.returncode == 0 for maker in makers)


def test_a_half_made_journal_of_a_maker_that_crashed_is_in_nobodys_way(path: Path) -> None:
    path.parent.mkdir()
    path.with_name("journal.db.new").write_bytes(b"half")
    with Journal.open(path, ID) as journal:
        assert admit(journal, a_run()) is None


CRASHING = """
import os, signal, sys
from pathlib import Path
from nanoexec.runner.journal import Journal
name, when = sys.argv[2:4]
real, left = getattr(os, name), int(sys.argv[4])
def call(*given, **more):
    global left
    left -= 1
    if not left and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        return real(*given, **more)
    finally:
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
setattr(os, name, call)
Journal.open(Path(sys.argv[1]), "crashed")
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("name", "number"), [("unlink", 1), ("open", 2), ("link", 1), ("unlink", 2), ("fsync", 1)])
def test_a_maker_that_crashed_anywhere_leaves_none_or_all_of_a_journal(
    path: Path, name: str, number: int, when: str
) -> None:
    words = [sys.executable, "-c", CRASHING, path, name, when, str(number)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    made = path.exists()
    with Journal.open(path, ID) as journal:
        assert journal.id == ("crashed" if made else ID)
        assert admit(journal, a_run()) is None
    with Journal.open(path, "another") as journal:
        assert len(journal.changes(0, 9)[0]) == 1


def test_a_journal_that_a_failing_disk_did_not_show_is_not_replaced(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run()
    with Journal.open(path, ID) as journal:
        admit(journal, run)
    monkeypatch.setattr(os.path, "exists", lambda _: False)  # what it makes of EIO
    monkeypatch.setattr(Path, "exists", lambda _: False)
    with Journal.open(path, "another") as journal:
        assert (journal.id, journal.find(run.id)) == (ID, replace(run, change=1, admitted=1))
    assert sorted(file.name for file in path.parent.iterdir()) == ["journal.db"]


def test_what_a_process_committed_before_it_was_killed_is_there_and_the_journal_works_on(path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from nanoexec.model import *; "
        "from nanoexec.runner.journal import Journal\n"
        "journal = Journal.open(Path(sys.argv[1]), 'x')\n"
        "for number in range(50):\n"
        "    run = Run(id=f'{number:016d}', action='a', cause=Cause.LOCAL, by='b', requested=1.0)\n"
        "    journal.admit(run, 0)\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -9
    with Journal.open(path, ID) as journal:
        assert len(journal.changes(0, 100)[0]) == 50
        assert admit(journal, a_run()) is None


def test_a_newer_journal_is_left_alone_and_both_versions_are_named(path: Path) -> None:
    Journal.open(path, ID).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(StoreError, match=r"journal\.db: the journal has version 7, this side knows 2: upgrade"):
        Journal.open(path, ID)


@pytest.mark.parametrize("content", [b"this is not a database, and long enough to be looked at" * 40, b""])
def test_a_file_that_is_no_journal_is_one_clear_error(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(
        StoreError, match=r"journal\.db: (cannot use the journal: file is not|not a journal of nanoexec)"
    ):
        Journal.open(path, ID)


def test_a_page_overwritten_with_rubbish_is_one_clear_error(path: Path) -> None:
    with Journal.open(path, ID) as journal:
        for _ in range(40):
            admit(journal, a_run(command=("x" * 300,)))
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    with Journal.open(path, ID) as journal, pytest.raises(StoreError, match=r"journal\.db: cannot use the journal: "):
        admit(journal, a_run())


def test_a_full_disk_is_one_clear_error_and_nothing_is_admitted(journal: Journal) -> None:
    admit(journal, a_run())
    journal._connection.execute("PRAGMA max_page_count = 1")  # SQLite's own way of running out of room
    run = a_run(arguments={f"a{number}": "x" * 4000 for number in range(10)})
    with pytest.raises(StoreError, match="database or disk is full"):
        admit(journal, run)
    assert journal.find(run.id) is None


def test_a_read_only_journal_is_one_clear_error(journal: Journal) -> None:
    journal._connection.execute("PRAGMA query_only = on")
    with pytest.raises(StoreError, match=r"journal\.db: cannot use the journal: attempt to write a readonly"):
        admit(journal, a_run())


def test_an_outcome_that_nobody_knows_is_one_clear_error(journal: Journal) -> None:
    run = a_run()
    admit(journal, run)
    journal._connection.execute("UPDATE runs SET outcome = 'splendid'")
    with pytest.raises(StoreError, match="cannot be read as a run: 'splendid'"):
        journal.find(run.id)


def test_pruning_forgets_what_ended_and_expired_long_ago_and_never_lets_the_count_go_back(journal: Journal) -> None:
    old, long_lived, unfinished, recent = a_run(), a_run(), a_run(), a_run()
    admit(journal, old, expires=50.0)
    admit(journal, long_lived, expires=61 * 86400.0)
    admit(journal, unfinished, expires=50.0)
    for run in (old, long_lived):
        journal.finish(succeeded(run))
    admit(journal, recent)
    journal.finish(succeeded(recent, change=0))
    assert journal.prune(100.0, now=100.0 + KEPT) == 0
    assert journal.prune(1000.0, now=1000.0 + KEPT) == 1
    left = journal.changes(0, 10)[0]
    assert {run.id for run in left} == {long_lived.id, unfinished.id, recent.id}
    highest = max(run.change for run in left)
    new = a_run()
    admit(journal, new)
    assert journal.find(new.id).change == highest + 1


def test_a_clock_far_ahead_makes_nothing_be_forgotten_that_can_come_again(journal: Journal) -> None:
    day = 86400.0
    for run, expires in ((a_run(), 1 * day), (a_run(), 29 * day), (a_run(), 0.0)):
        admit(journal, run, expires)
        journal.finish(succeeded(run))
    # Set right again, the hub may offer the first one once more.
    assert journal.prune(10_000 * day, now=10_000 * day + KEPT) == 0
    later = a_run()
    admit(journal, later, 62 * day)
    journal.finish(succeeded(later, change=0))
    assert journal.prune(10_000 * day, now=10_000 * day + KEPT) == 2  # the first and the one that nothing triggered


def test_a_trigger_may_have_been_forgotten_only_if_another_shows_that_it_is_past_coming_again(journal: Journal) -> None:
    day = 86400.0
    assert not journal.may_have_forgotten(1 * day), "nothing was ever triggered here"
    first, local, later = a_run(), a_run(), a_run()
    admit(journal, first, 1 * day)
    admit(journal, local)
    assert not journal.may_have_forgotten(1 * day)
    admit(journal, later, 62 * day)
    assert journal.may_have_forgotten(1 * day)
    assert not journal.may_have_forgotten(2 * day)
    for run in (first, local, later):
        journal.finish(succeeded(run, change=0))
    assert journal.prune(10_000 * day, now=10_000 * day + KEPT) == 2
    assert journal.may_have_forgotten(1 * day), "whatever was pruned"


def test_a_run_from_a_clock_that_was_years_ahead_keeps_none_of_those_after_it(journal: Journal) -> None:
    day = 86400.0
    for ended in (10 * 365 * day, 1 * day, 2 * day, 100 * day):
        run = a_run(requested=ended)
        admit(journal, run)
        journal.finish(replace(succeeded(run), ended=ended))
    assert journal.prunable(50 * day, now=50 * day + KEPT) == journal.prune(50 * day, now=50 * day + KEPT) == 2
    assert [run.ended for run in journal.changes(0, 10)[0]] == [10 * 365 * day, 100 * day]


def test_runs_from_a_clock_that_was_years_behind_are_not_old_while_one_before_them_is_new(journal: Journal) -> None:
    """An empty battery at a boot, before the machine has heard what time it is."""
    now = 50 * 365 * 86400.0
    for ended in (now - KEPT - 1.0, now - 20.0, now - 10.0, 1.0, 2.0, 3.0):
        run = a_run(requested=ended)
        admit(journal, run)
        journal.finish(replace(succeeded(run), ended=ended))
    assert journal.prune(now - KEPT, now) == 1
    assert [run.ended for run in journal.changes(0, 10)[0]] == [now - 20.0, now - 10.0, 1.0, 2.0, 3.0]


def test_the_last_thing_said_outlives_pruning(journal: Journal) -> None:
    run = a_run()
    admit(journal, run)
    journal.finish(succeeded(run))
    assert journal.prune(1e9, now=1e9 + KEPT) == 0


def test_a_run_is_equal_if_it_did_the_same_and_began_after_mine_was_admitted(journal: Journal) -> None:
    before, mine, after, other = (a_run(started=1.0), a_run(), a_run(), a_run(arguments={"n": "1"}))
    admit(journal, before)
    admit(journal, mine)
    admit(journal, after)
    admit(journal, other)
    journal.finish(succeeded(before))  # ended after mine was admitted, but began before
    assert journal.equal_since(mine) is None
    journal.start(other.id, 2.0)
    journal.finish(succeeded(other))
    assert journal.equal_since(mine) is None
    journal.start(after.id, 3.0)
    assert journal.equal_since(mine) is None
    journal.finish(succeeded(after))
    assert journal.equal_since(mine).id == after.id


def test_an_interrupted_run_serves_no_other(journal: Journal) -> None:
    mine, broken = a_run(), a_run()
    admit(journal, mine)
    admit(journal, broken)
    journal.start(broken.id, 2.0)
    journal.finish(replace(broken, outcome=Outcome.INTERRUPTED, ended=3.0))
    assert journal.equal_since(mine) is None


def test_recovery_ends_the_runs_whose_supervisor_is_gone_and_says_what_is_known(journal: Journal) -> None:
    me = this_process()
    alive = a_run(started=1.0)
    rebooted = a_run(started=1.0, boot="another boot")
    killed, waiting = a_run(started=1.0), a_run()
    admit(journal, alive)
    admit(journal, rebooted)
    for run in (killed, waiting):
        journal.admit(run, me.ticks - 1)
    journal.note_pid(killed.id, 124)
    recovered = {run.id: run for run in recover(journal, 500.0)}
    assert {run.outcome for run in recovered.values()} == {Outcome.INTERRUPTED}
    assert recovered[rebooted.id].reason == "the machine rebooted during the run"
    supervisor = f"its supervisor (pid {me.pid}) is gone"
    assert recovered[killed.id].reason == f"{supervisor}; the command (pid 124) may still be running"
    assert recovered[waiting.id].reason == f"{supervisor}, and the command was not started"
    assert alive.id not in recovered
    assert recover(journal, 501.0) == ()


def test_recovery_leaves_for_later_what_nobody_can_look_at_now(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive, orphan = a_run(started=1.0), a_run(started=1.0)
    admit(journal, alive)
    journal.admit(orphan, this_process().ticks - 1)
    boot = boot_id()
    with no_descriptors():
        assert recover(journal, 500.0) == ()
        for module in (process, recovery):
            monkeypatch.setattr(module, "boot_id", lambda: boot)  # the last descriptor went right after that look
        assert recover(journal, 500.0) == ()
    assert [run.id for run in recover(journal, 500.0)] == [orphan.id]
    assert journal.find(alive.id).outcome is None


def test_last_and_running_find_the_run_by_its_action(journal: Journal) -> None:
    ended, running = a_run(started=1.0), a_run(started=2.0)
    for run in (ended, running, a_run(), a_run(action="other", started=9.0)):
        admit(journal, run)
    assert journal.last("uptime").id == journal.running("uptime").id == running.id
    journal.finish(succeeded(ended))
    journal.finish(succeeded(running))
    assert journal.running("uptime") is None
    assert journal.last("uptime").id == running.id


# Taking back, and an older journal

VERSION_1 = """
ALTER TABLE runs DROP COLUMN cancelled;
ALTER TABLE runs DROP COLUMN canceller;
PRAGMA user_version = 1;
"""


def test_a_run_that_waits_is_called_off_and_cannot_start_or_end_otherwise(journal: Journal) -> None:
    run = a_run()
    admit(journal, run)
    assert journal.call_off(run.id, by="bob", at=150.0)
    known = journal.find(run.id)
    assert known is not None
    assert (known.outcome, known.reason, known.started) == (
        Outcome.CANCELLED,
        "cancelled by bob before it started",
        None,
    )
    assert (known.cancelled, known.canceller, known.by) == (150.0, "bob", "alice")
    with pytest.raises(StoreError, match="will not be started"):
        journal.start(run.id, 160.0)
    assert journal.finish(succeeded(run)) == known
    assert not journal.call_off(run.id, by="eve", at=170.0)


def test_a_run_that_has_started_is_not_called_off_but_noted_once(journal: Journal) -> None:
    run = a_run(started=1.0)
    admit(journal, run)
    assert not journal.call_off(run.id, by="bob", at=150.0)
    assert journal.note_cancellation(run.id, by="bob", at=150.0)
    assert not journal.note_cancellation(run.id, by="eve", at=160.0)
    ended = journal.finish(succeeded(run))
    assert (ended.outcome, ended.cancelled, ended.canceller) == (Outcome.SUCCEEDED, 150.0, "bob")
    assert not journal.note_cancellation(run.id, by="eve", at=170.0)


def test_an_orphan_that_somebody_had_cancelled_says_so(journal: Journal) -> None:
    run = a_run(started=1.0, supervisor=1 << 22)
    journal.admit(run, 1)
    journal.note_cancellation(run.id, by="bob", at=150.0)
    (interrupted,) = recover(journal, 200.0)
    assert interrupted.outcome is Outcome.INTERRUPTED
    assert interrupted.reason.endswith("may still be running, after bob had cancelled it")


def test_a_journal_of_the_first_version_is_upgraded_and_keeps_its_runs(path: Path) -> None:
    run = a_run(started=1.0)
    with Journal.open(path, ID) as journal:
        admit(journal, run)
        journal._connection.executescript(VERSION_1)
    with Journal.open(path, ID) as journal, Journal.open(path, ID) as other:
        assert journal.find(run.id) == replace(run, change=1, admitted=1, began=1)
        assert journal.note_cancellation(run.id, by="bob", at=150.0)
        assert other.find(run.id) == journal.find(run.id)
        assert journal._connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_slot_of_a_crontab_can_use_a_journal_that_nobody_has_upgraded_yet(path: Path) -> None:
    with Journal.open(path, ID) as journal:
        journal._connection.executescript(VERSION_1)
    Glance(str(path)).note_skip("uptime", by="root", reason="not needed", now=9.0)
    with Journal.open(path, ID) as journal:
        (run,), _ = journal.changes(0, 9)
        assert (run.reason, run.canceller) == ("not needed", "")


def test_runs_are_found_by_the_beginning_of_their_id(journal: Journal) -> None:
    runs = [a_run(id=text.ljust(16, "0")) for text in ("ab1", "ab2", "b")]
    for run in runs:
        admit(journal, run)
    assert [run.id[:3] for run in journal.beginning("ab")] == ["ab1", "ab2"]
    assert [run.id for run in journal.beginning(runs[2].id)] == [runs[2].id]
    assert journal.beginning("c") == ()
