"""The journal: what this node has run, and the one place that knows which trigger ids it has seen.

SQLite in WAL mode with ``synchronous=FULL``: every commit is one fsync, and what was committed survives a power cut.
``admit`` commits a run before anything starts; from then on its id can never start again. Each commit on a run gives it
the next ``change``, so that a reader can ask for what is new.

A connection must not cross a fork (SQLite keeps its lock bookkeeping per process): the runner's parent never opens the
journal, each child opens its own. A child ends with ``os._exit`` and leaves the log as a crash would: the next to open
it reads it, which is cheaper than the checkpoint, two fsyncs and an unlink, that closing costs every single run. A log
of at most about sixteen pages keeps that reading short: against 128 it saves 0.3 of 5 ms a run.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from nanoexec.errors import StoreError
from nanoexec.files import sync_directory
from nanoexec.model import Outcome, Run, Value, identifier
from nanoexec.runner import rows, tables
from nanoexec.runner.process import Process

MAX_BATCH_BYTES: Final = 8 << 20  # of output in one answer of `changes`; half of what a local message may hold
_BUSY_SECONDS: Final = 30.0
_PASSING: Final = frozenset(  # https://sqlite.org/rescode.html; what else there is says that file or statement is wrong
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)
_APART: Final = 60 * 86400.0  # seconds; a trigger lives half of it at most: both cannot be alive at the hub
_LOG_PAGES: Final = 16
_RUN: Final = ", ".join(tables.RUN)
_OLD: Final = (
    "ended < :before AND expires < :before"
    " AND (expires = 0 OR expires < (SELECT max(expires) FROM runs) - :apart) AND change < coalesce("
    "  (SELECT change FROM runs WHERE ended >= :before AND ended <= :now + :apart ORDER BY change LIMIT 1),"
    "  (SELECT max(change) FROM runs))"
)
_LEDGER: Final = ", ".join(tables.LEDGER)
_ENDING: Final = ", ".join(f"{column} = :{column}" for column in tables.ENDING)


class PassingError(StoreError):
    """The journal cannot be used now; the same may well succeed later: a disk is full, or others keep it busy."""


class OpenRun(Value, frozen=True):
    """A run without an outcome, and the process that answers for it."""

    run: Run
    supervisor: Process


class Journal:
    """An open journal. Every method raises `StoreError` when the file cannot be used."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    @classmethod
    def open(cls, path: Path, new_id: str | None = None) -> Self:
        """The journal at ``path``; if there is none, it is made with the id ``new_id``, or one drawn by lot.

        Only its owner can read the file; others may see that it changes (``st_mtime_ns`` moves with every commit).
        """
        with _Faults(path):
            file = str(path)
            if not os.path.exists(file):  # noqa: PTH110 - a Path's own costs every run 0.2 ms: its code is not warm yet
                _create(path, new_id)
            connection = sqlite3.connect(file, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                _check_version(path, connection)
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
            except BaseException:
                connection.close()
                raise
        return cls(path, connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. May be called twice."""
        with _Faults(self._path):
            self._connection.close()

    @property
    def id(self) -> str:
        """The journal's own name: a reader with a cursor of another one starts anew."""
        with _Faults(self._path):
            (value,) = self._connection.execute("SELECT value FROM meta WHERE key = 'id'").fetchone()
        return str(value)

    def admit(self, run: Run, ticks: int, expires: float = 0.0, *, within: float = _BUSY_SECONDS) -> Run | None:
        """Commit a new run, or give back the one that already has its id. None: the run is in, and is the caller's.

        ``ticks`` is the start time of its supervisor, ``expires`` when its trigger does. Waits at most ``within``
        seconds for others that use the journal.
        """
        hurried = within < _BUSY_SECONDS
        if hurried:
            self._wait_at_most(within)
        try:
            admitted = self._commit(tables.ADMIT, {**rows.row_of(run), "ticks": ticks, "expires": expires})
        finally:
            if hurried:
                self._wait_at_most(_BUSY_SECONDS)
        if admitted:
            return None
        if (known := self.find(run.id)) is None:  # to say None would be to give a run away that is not in
            raise StoreError(f"{self._path}: run {run.id} was forgotten just now: it is not started")
        return known

    def start(self, identity: str, started: float) -> None:
        """Commit that the command of an admitted run starts. Raises `StoreError` also if the run has an outcome."""
        if not self._update(f"started = :started, began = {tables.NEXT}", {"id": identity, "started": started}):
            raise StoreError(f"{self._path}: run {identity} is not waiting to start: it will not be started")

    def note_pid(self, identity: str, pid: int) -> None:
        """Commit which process runs the command."""
        self._update("pid = :pid", {"id": identity, "pid": pid})

    def finish(self, run: Run) -> Run:
        """Commit how a run ended, unless that was already said; gives the run as the journal has it then."""
        if not self._update(_ENDING, rows.row_of(run)):
            return self.find(run.id) or run
        query = f"SELECT {_LEDGER} FROM runs WHERE id = :id"  # noqa: S608 - constants
        with _Faults(self._path):  # nobody changes a run that has an outcome
            said = self._connection.execute(query, {"id": run.id}).fetchone()
        return msgspec.structs.replace(run, **dict(zip(tables.LEDGER, said, strict=True)))

    def call_off(self, identity: str, *, by: str, at: float) -> bool:
        """Commit that an admitted run will not start. False if it has started, or has an outcome."""
        assignments = "cancelled = :at, canceller = :by, ended = :at, outcome = :outcome, reason = :reason"
        reason = f"cancelled by {by} before it started"
        said = {"id": identity, "at": at, "by": by, "outcome": Outcome.CANCELLED, "reason": reason}
        return self._update(assignments, said, such="started IS NULL")

    def note_cancellation(self, identity: str, *, by: str, at: float) -> bool:
        """Commit who wants a started run stopped. False if that is known, or the run has an outcome."""
        said = {"id": identity, "at": at, "by": by}
        return self._update("cancelled = :at, canceller = :by", said, such="cancelled IS NULL")

    def find(self, identity: str) -> Run | None:
        """The run of that id."""
        return self._first("id = :id", {"id": identity})

    def running(self, action: str) -> Run | None:
        """The run of ``action`` that has started and not ended, the latest if there are several."""
        where = "outcome IS NULL AND action = :action AND started IS NOT NULL ORDER BY began DESC"
        return self._first(where, {"action": action})

    def last(self, action: str) -> Run | None:
        """The run of ``action`` that started last."""
        return self._first("action = :action AND started IS NOT NULL ORDER BY started DESC", {"action": action})

    def equal_since(self, run: Run) -> Run | None:
        """The latest run that did what ``run`` was to do, began after ``run`` was admitted, and ended by itself."""
        return self._first(
            "action = :action AND arguments = :arguments AND command = :command AND outcome IN (:ok, :failed, :late)"
            " AND began > (SELECT admitted FROM runs WHERE id = :id) ORDER BY began DESC",
            {
                "id": run.id,
                "action": run.action,
                "arguments": rows.arguments_text(run),
                "command": rows.command_text(run),
                "ok": Outcome.SUCCEEDED,
                "failed": Outcome.FAILED,
                "late": Outcome.TIMED_OUT,
            },
        )

    def changes(self, after: int, limit: int) -> tuple[tuple[Run, ...], bool]:
        """At most ``limit`` runs whose change is above ``after``, oldest change first, and whether there are more."""
        found: list[Run] = []
        size = 0
        where = "change > :after ORDER BY change LIMIT :limit"
        for run in self._runs(where, {"after": after, "limit": limit + 1}):
            size += len(run.output.head) + len(run.output.tail)
            if len(found) == limit or (found and size > MAX_BATCH_BYTES):
                return tuple(found), True
            found.append(run)
        return tuple(found), False

    def latest(self, limit: int) -> tuple[Run, ...]:
        """The runs that changed last, the newest first."""
        return tuple(self._runs("outcome IS NOT NULL ORDER BY change DESC LIMIT :limit", {"limit": limit}))

    def waiting(self, after: int) -> int:
        """How many runs have ended with a change above ``after``."""
        query = "SELECT count(*) FROM runs WHERE change > :after AND outcome IS NOT NULL"
        with _Faults(self._path):
            return int(self._connection.execute(query, {"after": after}).fetchone()[0])

    def open_runs(self) -> tuple[OpenRun, ...]:
        """The runs without an outcome, oldest first."""
        query = f"SELECT ticks, {_RUN} FROM runs WHERE outcome IS NULL ORDER BY admitted"  # noqa: S608 - constants
        with _Faults(self._path):
            found = [(row[0], rows.run_of(row[1:])) for row in self._connection.execute(query).fetchall()]
        return tuple(
            OpenRun(run=run, supervisor=Process(boot=run.boot, pid=run.supervisor, ticks=ticks)) for ticks, run in found
        )

    def supervisor(self, identity: str) -> Process | None:
        """The process that answers for a run, None if the run has an outcome or is not known."""
        return next((open_.supervisor for open_ in self.open_runs() if open_.run.id == identity), None)

    def beginning(self, text: str) -> tuple[Run, ...]:
        """The runs whose id begins so, two at most."""
        where = "substr(id, 1, length(:text)) = :text ORDER BY id LIMIT 2"
        return tuple(self._runs(where, {"text": text}))

    def prune(self, before: float, now: float) -> int:
        """Forget the runs that ended before ``before`` and whose trigger expired before it; gives how many.

        An order that expired so long ago must be rejected by whoever calls this, or it could run again. What was said
        last stays, so that the count of changes never goes back. The clock that gave ``before`` may be years ahead and
        be set right later: a trigger is kept while the latest one known does not show that it is past coming again. So
        may the clock of one that ended long after ``now``: it keeps none of those after it.
        """
        with _Faults(self._path):
            return self._connection.execute(f"DELETE FROM runs WHERE {_OLD}", _old(before, now)).rowcount  # noqa: S608 - a constant

    def may_have_forgotten(self, expires: float) -> bool:
        """Whether `prune` may have forgotten a trigger that expires then, whatever clocks have shown meanwhile."""
        with _Faults(self._path):
            found = self._connection.execute("SELECT ? < max(expires) - ? FROM runs", (expires, _APART))
            return bool(found.fetchone()[0])

    def prunable(self, before: float, now: float) -> int:
        """How many runs `prune` would forget."""
        with _Faults(self._path):
            found = self._connection.execute(f"SELECT count(*) FROM runs WHERE {_OLD}", _old(before, now))  # noqa: S608 - a constant
            return int(found.fetchone()[0])

    def _wait_at_most(self, seconds: float) -> None:
        with _Faults(self._path):
            self._connection.execute(f"PRAGMA busy_timeout = {max(1, int(seconds * 1000))}")

    def _update(self, assignments: str, values: Mapping[str, Any], *, such: str = "true") -> bool:
        return self._commit(
            f"UPDATE runs SET {assignments}, change = {tables.NEXT}"  # noqa: S608 - constants
            f" WHERE id = :id AND outcome IS NULL AND {such}",
            values,
        )

    def _commit(self, statement: str, values: Mapping[str, Any]) -> bool:
        """One statement, one transaction, one fsync. Whether anything has changed.

        It goes to the log: the file that an agent watches is touched to say so. In nanoseconds, for the kernel's own
        stamps stand still for milliseconds. No statement has a RETURNING, nor inserts what it selects: the table in
        memory that SQLite makes for either costs a run 0.2 ms.
        """
        with _Faults(self._path):
            changed = self._connection.execute(statement, values).rowcount > 0
        if changed:
            now = time.time_ns()
            with suppress(OSError):  # it is committed: that counts
                os.utime(self._path, ns=(now, now))
        return changed

    def _first(self, where: str, values: Mapping[str, Any]) -> Run | None:
        return next(iter([*self._runs(f"{where} LIMIT 1", values)]), None)

    def _runs(self, where: str, values: Mapping[str, Any]) -> Iterator[Run]:
        query = f"SELECT {_RUN} FROM runs WHERE {where}"  # noqa: S608 - constants
        with _Faults(self._path), closing(self._connection.execute(query, values)) as cursor:
            yield from map(rows.run_of, cursor)


def _create(path: Path, new_id: str | None) -> None:
    """Make a complete journal aside and give it its name: another process sees none or all of it.

    It never takes the place of one that is there. A maker that dies between the last two steps leaves it a second name,
    which nobody uses, and which goes when one is made anew.
    """
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        if path.exists():
            return
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(new, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(tables.SCHEMA)
            connection.execute("INSERT INTO meta VALUES ('id', ?)", (new_id or identifier(os.urandom(10)),))
        with suppress(FileExistsError):  # it is there after all: a disk that fails shows nothing
            path.hardlink_to(new)
        new.unlink()
        sync_directory(path.parent)
    finally:
        os.close(directory)


def _old(before: float, now: float) -> dict[str, float]:
    return {"before": before, "now": now, "apart": _APART}


class _Faults:
    """A context manager: what goes wrong with the file at ``path`` is a `StoreError`. No generator: every run pays."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        if isinstance(error, sqlite3.Error):
            passing = getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING  # the rest of it is the extended code
            kind_of = PassingError if passing else StoreError
            raise kind_of(f"{self._path}: cannot use the journal: {error}") from None
        if isinstance(error, OSError):
            raise StoreError(f"{self._path}: cannot use the journal: {error.strerror or error}") from None
        if isinstance(error, ValueError | TypeError | msgspec.MsgspecError):
            raise StoreError(f"{self._path}: the journal holds what cannot be read as a run: {error}") from None


def _check_version(path: Path, connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > tables.VERSION:
        raise StoreError(
            f"{path}: the journal has version {version}, this side knows {tables.VERSION}: upgrade nanoexec"
        )
    if version < tables.OLDEST:
        raise StoreError(f"{path}: not a journal of nanoexec (version {version}): move the file away")
    if version < tables.VERSION:
        _upgrade(connection)


def _upgrade(connection: sqlite3.Connection) -> None:
    """Add what is new, unless somebody else just has. Runs under way go on: they do not mind a column more."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version < tables.VERSION:
            for statement in tables.UPGRADE:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {tables.VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
