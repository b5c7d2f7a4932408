"""Opening: made whole, upgraded with a copy, or refused in one line that names the file."""

import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from nanoexec.errors import StoreError
from nanoexec.model import Cursor, Node
from nanoexec.record import DeliveryCancelled, NodeHeard
from nanoexec.store import Store, opening, snapshot
from nanoexec.store.opening import OURS, Migrations
from tests.integration.store.records import identifier, issued, local

HEAD = OURS.head
NEXT = f"{int(HEAD) + 1:04d}"
ADDS_A_COLUMN = """
import sqlalchemy as sa
from alembic import op

revision = "NEXT"
down_revision = "HEAD"


def upgrade() -> None:
    with op.batch_alter_table("triggers") as table:
        table.add_column(sa.Column("note", sa.Text, nullable=False, server_default="none"))
        table.drop_column("timeout")
    op.execute("DELETE FROM runs")
""".replace("NEXT", NEXT).replace("HEAD", HEAD)


@pytest.fixture
def second(tmp_path: Path) -> Migrations:
    """Our migrations and one more."""
    return _second(tmp_path, ADDS_A_COLUMN)


def _second(tmp_path: Path, script: str) -> Migrations:
    directory = tmp_path / "100% more migrations"
    shutil.copytree(OURS.directory, directory, ignore=shutil.ignore_patterns("__pycache__"))
    (directory / f"versions/v{NEXT}.py").write_text(script)
    return Migrations(directory, NEXT)


def _query(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


@contextmanager
def _one_line(path: Path, text: str) -> Iterator[None]:
    with pytest.raises(StoreError) as caught:
        yield
    assert re.search(text, str(caught.value))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_new_store_is_private_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a ?#% b.db"
    Store.open(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_log_beside_an_open_store_is_private_too(store: Store, store_path: Path) -> None:
    store.commit([local("a", "web1")])
    assert stat.S_IMODE(store_path.with_name("hub.db-wal").stat().st_mode) == 0o600


def test_a_commit_is_synced_before_it_returns(store: Store) -> None:
    with store._write() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_what_was_stored_is_there_when_it_is_opened_again(store_path: Path) -> None:
    first = Store.open(store_path)
    first.commit([issued("a", "web1")])
    first.close()
    again = Store.open(store_path)
    assert len(again.open_triggers()) == 1
    again.close()


def test_a_current_store_opens_and_works_without_alembic(store_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom nanoexec.store import Store\n"
        "store = Store.open(Path(sys.argv[1]))\nstore.open_triggers()\nstore.purge(1.0)\nstore.close()\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('alembic', 'mako')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(store_path)], capture_output=True, check=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_making_and_upgrading_say_nothing_of_their_own(
    tmp_path: Path, second: Migrations, capfd: pytest.CaptureFixture[str]
) -> None:
    Store.open(tmp_path / "hub.db").close()
    Store.open(tmp_path / "hub.db", second).close()
    assert capfd.readouterr() == ("", "")


def test_a_crash_while_a_store_is_made_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom nanoexec.store import Store\n"
        "sys.addaudithook(lambda event, _: os._exit(9) if event == 'os.rename' else None)\n"
        "Store.open(Path(sys.argv[1]))"
    )
    path = tmp_path / "hub.db"
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False, timeout=60).returncode == 9
    assert not path.exists()
    Store.open(path).close()


def test_the_log_of_a_store_that_is_gone_is_not_played_into_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "hub.db-wal").write_bytes(b"something")
    with _one_line(tmp_path / "hub.db", "belongs to a database that is gone"):
        Store.open(tmp_path / "hub.db")
    assert (tmp_path / "hub.db-wal").read_bytes() == b"something"


def test_an_older_store_is_copied_and_upgraded(store_path: Path, second: Migrations) -> None:
    old = Store.open(store_path)
    old.commit([issued("a", "web1", timeout=9.0), local("r", "web1")])
    old.close()
    Store.open(store_path, second).close()
    copy = store_path.with_name(f"hub.db.before-{HEAD}")
    assert _query(store_path, "SELECT version_num FROM alembic_version") == [(NEXT,)]
    assert _query(store_path, "SELECT note, (SELECT count(*) FROM deliveries) FROM triggers") == [("none", 1)]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    kept = Store.open(copy)
    assert (kept.open_triggers()[0].trigger.timeout, len(kept.history(limit=9))) == (9.0, 2)
    kept.close()


@pytest.mark.parametrize(
    "fault", ['raise RuntimeError("no such luck\\nand more")', 'op.execute("SELECT no_such_luck")']
)
def test_a_failed_upgrade_leaves_the_old_store_usable(store_path: Path, tmp_path: Path, fault: str) -> None:
    failing = _second(tmp_path, f"{ADDS_A_COLUMN}    {fault}\n")
    old = Store.open(store_path)
    old.commit([issued("a", "web1", timeout=9.0), local("r", "web1")])
    old.close()
    before = _query(store_path, "SELECT sql FROM sqlite_master ORDER BY name")
    for _ in range(2):  # trying again does not make it worse
        with _one_line(store_path, rf"from version {HEAD} to {NEXT} failed and changed nothing: .*no.such.luck"):
            Store.open(store_path, failing)
    assert _query(store_path, "SELECT sql FROM sqlite_master ORDER BY name") == before
    again = Store.open(store_path)
    assert (again.open_triggers()[0].trigger.timeout, len(again.history(limit=9))) == (9.0, 2)
    again.commit([local("s", "web1")])
    again.close()
    assert sorted(file.name for file in tmp_path.glob("hub.db*")) == ["hub.db", f"hub.db.before-{HEAD}"]


def test_a_newer_store_is_refused_and_not_touched(store_path: Path, second: Migrations) -> None:
    Store.open(store_path, second).close()
    before = store_path.read_bytes()
    with _one_line(
        store_path, rf"its version is {NEXT}, this nanoexec knows {HEAD}: made by a newer nanoexec: upgrade"
    ):
        Store.open(store_path)
    assert store_path.read_bytes() == before


def test_a_store_of_no_known_version_is_refused(store_path: Path) -> None:
    with closing(sqlite3.connect(store_path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'x1'")
    with _one_line(store_path, rf"its version is x1, this nanoexec knows {HEAD}: restore a backup"):
        Store.open(store_path)


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "CREATE TABLE theirs (x)",
        "CREATE TABLE alembic_version (version_num); INSERT INTO alembic_version VALUES ('0002')",
        "CREATE TABLE alembic_version (version_num); CREATE TABLE meta (key, value)",
    ],
)
def test_a_database_of_another_program_is_refused_and_not_touched(tmp_path: Path, sql: str) -> None:
    path = tmp_path / "hub.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(sql)
    path.touch()
    before = path.read_bytes()
    with _one_line(path, "is not a database of a nanoexec hub"):
        Store.open(path)
    assert path.read_bytes() == before


def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    path.write_bytes(b"name = 'hub'\n" * 200)
    with _one_line(path, "is not a database"):
        Store.open(path)


def test_a_damaged_store_is_one_line_wherever_the_damage_shows(store_path: Path) -> None:
    store = Store.open(store_path)
    store.commit([local(f"{number:03}", "web1") for number in range(300)])
    store.close()
    data = bytearray(store_path.read_bytes())
    data[4096 * 2 :] = os.urandom(len(data) - 4096 * 2)
    store_path.write_bytes(data)
    with _one_line(store_path, "is damaged: restore a backup"):
        damaged = Store.open(store_path)
        try:
            damaged.history(limit=99)
        finally:
            damaged.close()


def test_a_missing_directory_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "none/hub.db"
    with _one_line(path, "No such file or directory"):
        Store.open(path)


def test_a_directory_in_its_place_is_one_line(tmp_path: Path) -> None:
    with _one_line(tmp_path, "cannot be opened"):
        Store.open(tmp_path)


def test_a_store_that_may_only_be_read_is_refused_when_it_is_opened(store_path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own directories are closed to others
        Path(name).chmod(0o755)
        path = Path(shutil.copy(store_path, Path(name) / "hub.db"))
        path.chmod(0o444)
        with _one_line(path, "cannot be written: check owner and mode"), _as_nobody():
            Store.open(path)


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Root may write what is read-only."""
    before = os.geteuid()
    os.seteuid(65534 if before == 0 else before)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_full_disk_stores_nothing_of_the_group_and_the_store_lives_on(store: Store, store_path: Path) -> None:
    store.commit([issued("a", "web1")])
    with store._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 4}")
    with _one_line(store_path, "the disk is full: make room, nothing of this change was stored"):
        store.commit([local(f"{number:03}", "web1") for number in range(500)])
    assert [entry.id[0] for entry in store.history(limit=9)] == ["a"]
    with store._engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {1 << 30}")
    store.commit([local(f"{number:03}", "web1") for number in range(500)])
    assert len(store.history(limit=999)) == 501


def test_a_store_that_another_process_keeps_locked_is_one_line(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_PATIENCE", 0.0)
    store = Store.open(store_path)
    with closing(sqlite3.connect(store_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with _one_line(store_path, "another process keeps it locked"):
            store.commit([local("a", "web1")])
        with _one_line(store_path, "another process keeps it locked"):
            Store.open(store_path)
    store.commit([local("a", "web1")])
    store.close()


def test_a_store_that_is_taken_away_is_not_made_anew_behind_the_hub(store: Store, store_path: Path) -> None:
    for file in store_path.parent.glob("hub.db*"):
        file.unlink()
    with (
        store._read(),
        _one_line(store_path, "cannot be opened"),
    ):  # the open connection is busy
        store.roster()
    assert not store_path.exists()


def test_a_backup_is_a_whole_store_of_its_own(store: Store, store_path: Path) -> None:
    store.commit([issued("a", "web1")])
    target = store_path.with_name("copy.db")
    snapshot(store_path, target)
    store.commit([local("r", "web1")])
    assert sorted(file.name for file in store_path.parent.glob("copy.db*")) == ["copy.db"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    copy = Store.open(target)
    assert [entry.id[0] for entry in copy.history(limit=9)] == ["a"]
    copy.close()


def test_a_backup_that_cannot_be_made_says_which_file_is_at_fault(store_path: Path) -> None:
    missing = store_path.parent / "none/copy.db"
    with _one_line(missing, "No such file or directory"):
        snapshot(store_path, missing)
    with _one_line(missing, "cannot be opened"):
        snapshot(missing, store_path.with_name("copy.db"))
    store_path.write_bytes(b"not a database " * 100)
    with _one_line(store_path, "is not a database"):
        snapshot(store_path, store_path.with_name("copy.db"))


OF_THE_FIRST_VERSION = """
INSERT INTO triggers VALUES
    ('a000000000000000', 'uptime', 'ALL', 'ALL', 100, 160, 'root', '{}', NULL, '[]', x'01', x'');
INSERT INTO deliveries VALUES ('a000000000000000', 'web1', 'finished', 102, '');
INSERT INTO deliveries VALUES ('a000000000000000', 'web2', 'sent', 100, '');
INSERT INTO runs VALUES
    ('web1', 'a000000000000000', 'a000000000000000', 'uptime', 'trigger', 'root', 2, 102, 98, 99, 99.5, 0.5,
     'succeeded', '', 0, NULL, NULL, '{}', '[]', 5, x'646f6e650a', x'');
"""


def test_a_store_of_the_first_version_keeps_everything_and_can_be_used_on(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    first = Migrations(OURS.directory, "0001")
    opening.prepare(path, first)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(OF_THE_FIRST_VERSION)
    with closing(Store.open(path)) as store:
        done, sent = store.trigger("a").deliveries
        assert done.run is not None
        assert (done.run.outcome, done.run.output.text(), done.run.admitted) == ("succeeded", "done\n", 0)
        assert (sent.state, sent.cancelled) == ("sent", None)
        store.commit([DeliveryCancelled(identifier("a"), "web2", "bob", 5.0), local("r", "web1")])
        assert store.open_triggers()[0].cancels == {"web2": "bob"}


def test_a_store_of_the_first_version_keeps_its_nodes_and_can_note_more_of_them(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    opening.prepare(path, Migrations(OURS.directory, "0001"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO nodes VALUES ('web1', '0000000000000k01', 1.0, 2.0, 0.5, '1.0', '[]', NULL)")
    upgraded = Store.open(path)
    assert upgraded.roster() == [Node("web1", "0000000000000k01", 1.0, seen=2.0, skew=0.5, version="1.0")]
    upgraded.commit([NodeHeard("web1", 3.0, 0.5, "1.0", (), Cursor("j1", 7, "e1"))])
    assert upgraded.roster()[0].relayed == Cursor("j1", 7, "e1")
    upgraded.close()
