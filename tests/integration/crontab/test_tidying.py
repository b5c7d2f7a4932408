"""``nanoexec cron tidy``: what nobody needs any more goes, and nothing else."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nanoexec.config import Paths
from nanoexec.crontab import backups, records
from nanoexec.crontab.locking import locked
from nanoexec.crontab.records import Adoption
from nanoexec.model import Cause, Outcome, Run, identifier
from nanoexec.runner.journal import Journal
from tests.support.command_line import nanoexec_command
from tests.support.fleet import assert_one_line

pytestmark = pytest.mark.node

DAY = 86400.0


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(root=tmp_path)


def backup(paths: Paths, file: str, days: float) -> str:
    """The backup of a crontab that is so many days old."""
    data = f"{file} {days}".encode()
    name = records.backup_name(file, data, time.time() - days * DAY)
    records.back_up(paths, name, data)
    return name


@contextmanager
def journal(paths: Paths) -> Iterator[Journal]:
    with Journal.open(paths.journal) as opened:
        yield opened


def ran(paths: Paths, days: float, *, expires: float = 0.0) -> str:
    """A run that ended so many days ago."""
    at = time.time() - days * DAY
    run = Run(
        id=identifier(os.urandom(10)),
        action="work",
        cause=Cause.LOCAL,
        by="me",
        requested=at,
        ended=at,
        outcome=Outcome.SUCCEEDED,
    )
    with journal(paths) as opened:
        assert opened.admit(run, 1, expires) is None
    return run.id


def kept(paths: Paths) -> set[str]:
    return {file.name for file in paths.crontabs.iterdir()}


def tidy(paths: Paths, *words: str) -> list[str]:
    done = nanoexec_command(paths.root, "cron", "tidy", *words)
    assert (done.returncode, done.stdout) == (0, "")
    return done.stderr.splitlines()


def test_old_backups_go_but_for_the_last_ten_of_each_crontab(paths: Paths) -> None:
    old = [backup(paths, "/etc/crontab", 100.0 + number) for number in range(13)]
    others = {backup(paths, "/etc/cron.d/site", 400.0 + number) for number in range(10)}
    said = tidy(paths)
    assert kept(paths) == {*old[:10], *others}
    assert said == [
        *(str(paths.crontabs / name) for name in reversed(old[10:])),
        "removed 3 backups of crontabs and 0 runs from the journal",
    ]
    assert tidy(paths) == ["nothing to remove"]


def test_a_young_backup_stays_however_many_there_are(paths: Paths) -> None:
    young = {backup(paths, "/etc/crontab", float(number)) for number in range(30)}
    assert tidy(paths) == ["nothing to remove"]
    assert kept(paths) == young


def test_the_backup_of_a_line_that_is_adopted_stays_however_old(paths: Paths) -> None:
    old = [backup(paths, "/etc/crontab", 100.0 + number) for number in range(13)]
    records.save(paths, [Adoption("/etc/crontab", "work", b"1 * * * * root work\n", 1.0, old[12])])
    tidy(paths)
    assert kept(paths) == {*old[:10], old[12], "adoptions.json"}


def test_what_is_not_a_backup_is_left_alone(paths: Paths) -> None:
    for number in range(12):
        backup(paths, "/etc/crontab", 100.0 + number)
    others = {"notes", "etc+crontab.20200101T000000Z", "etc+crontab.20209901T000000Z.0123abcd"}
    for name in others:
        (paths.crontabs / name).write_text("mine")
    tidy(paths)
    assert others <= kept(paths)
    assert len(kept(paths)) == 10 + len(others)


def test_without_readable_records_no_backup_is_touched(paths: Paths) -> None:
    for number in range(13):
        backup(paths, "/etc/crontab", 100.0 + number)
    (paths.crontabs / "adoptions.json").write_text("rubbish")
    before = kept(paths)
    assert_one_line(nanoexec_command(paths.root, "cron", "tidy"), 1, "not a record of adopted lines")
    assert kept(paths) == before


def test_while_another_nanoexec_changes_crontabs_nothing_is_deleted(paths: Paths) -> None:
    for number in range(13):
        backup(paths, "/etc/crontab", 100.0 + number)
    with locked(paths):
        assert_one_line(nanoexec_command(paths.root, "cron", "tidy"), 1, "another nanoexec is changing crontabs")
    assert len(kept(paths)) == 13


def test_runs_older_than_the_journal_remembers_go(paths: Paths) -> None:
    paths.etc.mkdir(parents=True)
    paths.agent_config.write_text("journal_days = 7\n")
    gone, stays, young = ran(paths, 8.0), ran(paths, 8.0, expires=time.time()), ran(paths, 6.0)
    assert tidy(paths) == ["removed 0 backups of crontabs and 1 run from the journal"]
    with journal(paths) as opened:
        assert [bool(opened.find(run)) for run in (gone, stays, young)] == [False, True, True]
    assert tidy(paths) == ["nothing to remove"]


def test_a_plan_says_the_same_and_removes_nothing(paths: Paths) -> None:
    old = {backup(paths, "/etc/crontab", 100.0 + number) for number in range(11)}
    first, _ = ran(paths, 100.0), ran(paths, 1.0)
    said = tidy(paths, "--plan")
    assert said[-1] == "would remove 1 backup of crontabs and 1 run from the journal; nothing was removed"
    assert kept(paths) == old
    with journal(paths) as opened:
        assert opened.find(first)
    assert tidy(paths)[:-1] == said[:-1]


def test_quiet_says_nothing_and_does_the_same(paths: Paths) -> None:
    for number in range(12):
        backup(paths, "/etc/crontab", 100.0 + number)
    assert tidy(paths, "--quiet") == []
    assert len(kept(paths)) == 10


def test_on_a_machine_with_nothing_there_is_nothing_to_remove_and_nothing_is_made(paths: Paths) -> None:
    assert tidy(paths, "--plan") == ["nothing to remove"]
    assert list(paths.root.iterdir()) == []
    assert tidy(paths) == ["nothing to remove"]
    assert not paths.journal.exists()


def test_a_journal_of_a_newer_version_is_said_and_left_alone(paths: Paths) -> None:
    with journal(paths) as opened:
        opened._connection.execute("PRAGMA user_version = 99")
    done = nanoexec_command(paths.root, "cron", "tidy")
    assert_one_line(done, 1, "the journal has version 99", "upgrade nanoexec")


def test_lines_can_be_restored_after_all_old_backups_are_gone(paths: Paths) -> None:
    crontab = paths.root / "etc/crontab"
    crontab.parent.mkdir(parents=True)
    crontab.write_text("17 * * * * root /bin/true\n")
    paths.actions.mkdir(parents=True)
    (paths.actions / "work.toml").write_text('name = "work"\ncommand = ["/bin/true"]\n')
    words = ("cron", "adopt", "--line", "/etc/crontab:1", "work", "--yes", "--run", "/usr/bin/nanoexec-run")
    assert nanoexec_command(paths.root, *words).returncode == 0
    for number in range(20):
        backup(paths, str(crontab), 100.0 + number)
    index = json.loads((paths.crontabs / "adoptions.json").read_text())
    assert len(backups.discard_old(paths, time.time() + 400 * DAY)) == 11
    assert json.loads((paths.crontabs / "adoptions.json").read_text()) == index
    assert nanoexec_command(paths.root, "cron", "restore", "--all", "--yes").returncode == 0
    assert crontab.read_text() == "17 * * * * root /bin/true\n"
