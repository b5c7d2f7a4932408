"""How a run ended is known to its supervisor alone: it says so until the journal takes it."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nanoexec.actions import Manifest
from nanoexec.errors import StoreError
from nanoexec.model import Outcome, Output, Run
from nanoexec.runner.execution import Ending
from nanoexec.runner.journal import Journal
from nanoexec.runner.lock import ActionLock
from nanoexec.runner.order import work
from nanoexec.runner.supervision import Supervision
from tests.support.runner import ME, a_run

pytestmark = pytest.mark.node
DAY = 86400.0
ENDING = Ending(pid=124, status=0, duration=2.0, timed_out=False, output=Output(head=b"done\n", size=5))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "state/journal.db") as opened:
        yield opened


class Watched:
    """A supervision whose command has ended at once, and whose pauses are noted; ``pausing`` happens in each."""

    def __init__(self, journal: Journal, locks: Path, spoil: Callable[[], object], **more: Any) -> None:
        self.told: list[Run] = []
        self.pauses: list[float] = []
        self.pausing: Callable[[], object] = lambda: None

        def perform(*_: object, **__: object) -> Ending:
            spoil()
            return ENDING

        def pause(seconds: float) -> None:
            self.pauses.append(seconds)
            self.pausing()

        self.work = work(a_run(), Manifest(name="uptime", command=("true",), user=ME), None)
        self.supervision = Supervision(
            journal,
            self.work,
            locks=locks,
            limit=1024,
            tell=self.told.append,
            perform=perform,
            clock=lambda: 100.0 + sum(self.pauses),
            pause=pause,
            **more,
        )


def read_only(journal: Journal, *, on: bool) -> None:
    """What a full disk is to a write, without one."""
    journal._connection.execute(f"PRAGMA query_only = {on:d}")


def test_how_a_run_ended_is_said_until_the_journal_takes_it(journal: Journal, tmp_path: Path) -> None:
    watched = Watched(journal, tmp_path, lambda: read_only(journal, on=True))

    def pausing() -> None:
        if sum(watched.pauses) > DAY:
            read_only(journal, on=False)

    watched.pausing = pausing
    ended = watched.supervision.carry_out()
    assert (ended.outcome, ended.status, ended.started, ended.ended) == (Outcome.SUCCEEDED, 0, 100.0, 100.0)
    assert ended.output == Output(size=5), "room for the outcome is not spent on the output"
    assert journal.find(ended.id) == ended
    assert watched.pauses[:6] == [0.1, 1.0, 10.0, 60.0, 60.0, 60.0]
    assert set(watched.pauses[6:]) == {60.0}


def test_while_it_cannot_be_said_how_a_run_ended_it_is_told_once_that_it_has_started(
    journal: Journal, tmp_path: Path
) -> None:
    """Or whoever waits for it would hear nothing of a short one, and take it for one that expired."""
    watched = Watched(journal, tmp_path, lambda: read_only(journal, on=True))
    watched.pausing = lambda: read_only(journal, on=len(watched.pauses) < 9)
    ended = watched.supervision.carry_out()
    assert ended.outcome is Outcome.SUCCEEDED
    (told,) = watched.told
    assert (told.id, told.started, told.outcome) == (watched.work.run.id, 100.0, None)


def test_the_next_run_of_the_action_waits_until_the_journal_has_the_end_of_the_one_before(
    journal: Journal, tmp_path: Path
) -> None:
    """It could not journal its own start, and would be lost."""
    watched = Watched(journal, tmp_path, lambda: read_only(journal, on=True))
    taken: list[bool] = []

    def pausing() -> None:
        with ActionLock(tmp_path, "uptime") as lock:
            taken.append(lock.try_acquire())
        read_only(journal, on=len(taken) < 9)

    watched.pausing = pausing
    watched.supervision.carry_out()
    assert taken == [False] * 9
    with ActionLock(tmp_path, "uptime") as lock:
        assert lock.try_acquire()


def test_a_journal_that_no_waiting_mends_is_given_up_and_the_action_is_free_again(
    journal: Journal, tmp_path: Path
) -> None:
    (tmp_path / "rubbish").write_bytes(b"rubbish" * 1000)
    with closing(sqlite3.connect(tmp_path / "rubbish", isolation_level=None)) as rubbish:
        whole = journal._connection
        watched = Watched(journal, tmp_path, lambda: setattr(journal, "_connection", rubbish))
        with pytest.raises(StoreError, match="file is not a database"):
            watched.supervision.carry_out()
        journal._connection = whole
    assert watched.pauses == [0.1, 1.0, 10.0, 60.0]
    with ActionLock(tmp_path, "uptime") as lock:
        assert lock.try_acquire()
