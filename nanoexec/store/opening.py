"""Opening the hub's database: make a missing one, accept a current one, upgrade an older one, refuse anything else.

A new database is built in memory by the same migrations that upgrade old ones, and appears under its name whole or not
at all. An upgrade is one transaction, after a copy of the file was made; a failure leaves the old version usable.
Alembic costs a third of a second to import, so that only those two import it.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec
import sqlalchemy as sa
from sqlalchemy.pool import Pool, QueuePool, StaticPool

from nanoexec.errors import ConfigError, StoreError
from nanoexec.files import sync_directory, write_atomically
from nanoexec.store.faults import faults, first_line

KIND: Final = "nanoexec hub"
INCREMENTAL: Final = 2  # gives free pages back when told to: https://sqlite.org/pragma.html#pragma_auto_vacuum
_MODE: Final = 0o600  # it names machines and holds what commands printed
_PATIENCE: Final = 10.0  # seconds to wait for a lock; the longest holder is one batch of a purge


class Migrations(msgspec.Struct, frozen=True):
    """An Alembic environment, and the revision that it leads to. Revisions are numbers of four digits."""

    directory: Path
    head: str


OURS: Final = Migrations(Path(__file__).parent / "migrations", "0004")


def prepare(path: Path, migrations: Migrations) -> None:
    """Leave a database of our version at ``path``. Raises `StoreError`."""
    with faults(path):
        if not path.exists():
            _create(path, migrations)
            return
        with closing(connect(path)) as connection:
            revision = _revision(path, connection)
            if revision == migrations.head:
                return
            if not revision.isdecimal() or revision > migrations.head:
                origin = "made by a newer nanoexec: upgrade this one" if revision.isdecimal() else "restore a backup"
                raise StoreError(f"{path}: its version is {revision}, this nanoexec knows {migrations.head}: {origin}")
            _upgrade(path, connection, revision, migrations)


def engine(path: Path) -> sa.Engine:
    """Connections to a prepared database, for any thread, durable at each commit."""

    def tuned() -> sqlite3.Connection:
        connection = connect(path)
        try:
            connection.execute("PRAGMA journal_mode = WAL")  # readers never wait for the writer, nor it for them
            connection.execute("PRAGMA synchronous = FULL")  # in WAL mode a commit needs this to survive a power cut
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    return _engine(tuned, QueuePool)


def snapshot(path: Path, target: Path) -> None:
    """Copy the database at ``path`` as it is at one moment to a new file, 0600, while others use it.

    Raises `StoreError`.
    """
    with faults(path):
        source = connect(path)
    with closing(source):
        with faults(path):
            source.execute("PRAGMA schema_version").fetchone()  # SQLite opens anything; what cannot be read shows here
        with faults(target):
            copy(source, target)


def copy(source: sqlite3.Connection, target: Path) -> None:
    """Copy a database, while others use it, to ``target``, which appears whole. Raises `sqlite3.Error`, `OSError`."""
    temporary = target.with_name(f"{target.name}.new")
    temporary.unlink(missing_ok=True)
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _MODE))
    try:
        with closing(sqlite3.connect(temporary)) as connection:
            source.backup(connection)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(target.parent)


def _create(path: Path, migrations: Migrations) -> None:
    for companion in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-journal")):
        if companion.exists():  # SQLite would play it into the new file
            raise StoreError(f"{companion}: belongs to a database that is gone: restore {path}, or move this file away")
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")  # only before there is a table
        _migrate(connection, migrations)
        data = connection.serialize()
    try:
        write_atomically(path, data, _MODE)
    except ConfigError as error:
        raise StoreError(str(error)) from error


def _upgrade(path: Path, connection: sqlite3.Connection, revision: str, migrations: Migrations) -> None:
    before = path.with_name(f"{path.name}.before-{revision}")
    with faults(before):
        copy(connection, before)
    try:
        _migrate(connection, migrations)
    except Exception as error:
        raise StoreError(
            f"{path}: upgrading it from version {revision} to {migrations.head} failed and changed nothing: "
            f"{first_line(error)} (a copy is {before.name})"
        ) from error


def _migrate(connection: sqlite3.Connection, migrations: Migrations) -> None:
    from alembic import command  # noqa: PLC0415 - a current database opens without it
    from alembic.config import Config  # noqa: PLC0415 - the same

    config = Config()
    config.set_main_option("script_location", str(migrations.directory).replace("%", "%%"))
    with _engine(lambda: connection, StaticPool).execution_options(writing=True).begin() as transaction:
        config.attributes["connection"] = transaction
        command.upgrade(config, migrations.head)


def _revision(path: Path, connection: sqlite3.Connection) -> str:
    """The version of a database that is ours and that we may write."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    kind = connection.execute("SELECT value FROM meta WHERE key = 'kind'").fetchone() if "meta" in tables else None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if kind == (KIND,) else None
    if row is None:
        raise StoreError(f"{path}: is not a database of a nanoexec hub: move the file away, or use another path")
    connection.execute("BEGIN IMMEDIATE")  # SQLite opens a file that it may only read without a word
    connection.execute("ROLLBACK")
    return str(row[0])


def connect(path: Path) -> sqlite3.Connection:
    """A connection without transactions of Python's own making. It never creates the file."""
    return sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=rw",
        uri=True,
        timeout=_PATIENCE,
        isolation_level=None,
        check_same_thread=False,  # a pooled connection serves one thread at a time, not always the same
    )


def _engine(connect: Callable[[], sqlite3.Connection], pool: type[Pool]) -> sa.Engine:
    """An engine that says BEGIN itself.

    Python's sqlite3 would begin a transaction only before a change of rows: a read of two statements would see two
    states, and half of a failed migration would stay (SQLAlchemy's SQLite page, "Enabling Non-Legacy SQLite
    Transactional Modes"). A writer takes its lock at once; a reader that becomes one could be refused at any moment.
    """
    made = sa.create_engine("sqlite://", creator=connect, poolclass=pool)

    @sa.event.listens_for(made, "begin")
    def begin(connection: sa.Connection) -> None:
        writing = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return made
