"""The hub's store: what it must not forget, in one SQLite file."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import sqlalchemy as sa

from nanoexec.errors import StoreError
from nanoexec.model import Node
from nanoexec.record import Chain, Change, HistoryEntry, RunReported, Standing, StoredTrigger, TokenMade, TriggerDetail
from nanoexec.store import changes, opening, purging, queries
from nanoexec.store.faults import faults
from nanoexec.store.schema import tokens


class Store:
    """The hub's database. Every method blocks, and raises `StoreError` when the file fails it.

    One thread writes; any may read meanwhile, each call seeing one moment. What `commit` has returned from is on disk.
    """

    def __init__(self, path: Path, engine: sa.Engine) -> None:
        self._path: Final = path
        self._engine: Final = engine
        self._writing: Final = engine.execution_options(writing=True)  # the same connections

    @classmethod
    def open(cls, path: Path, migrations: opening.Migrations = opening.OURS) -> Self:
        """Open the database at ``path``, making a missing one and upgrading an older one (a copy of it is kept)."""
        opening.prepare(path, migrations)
        store = cls(path, opening.engine(path))
        try:
            with store._read():
                return store
        except StoreError:
            store.close()
            raise

    def close(self) -> None:
        """Close it; the last one to do so folds the write-ahead log into the file."""
        with faults(self._path):
            self._engine.dispose()

    def commit(self, group: Sequence[Change]) -> None:
        """Store all of these changes, in this order, or none of them."""
        with self._write() as connection:
            changes.apply(connection, group)

    def newest(self) -> float:
        """When the last trigger was issued or the last run reported, by the hub's clock; 0 without any."""
        with self._read() as connection:
            return queries.newest(connection)

    def purge(self, before: float, tokens_before: float | None = None) -> int:
        """Forget triggers that were over, runs that were reported and tokens that ended before then: how many of them.

        ``before`` is of the hub's clock; tokens may have a moment of their own. A trigger goes with its deliveries and
        runs once none of them is open.
        """
        gone = 0
        while removed := self.purge_some(before, tokens_before):
            gone += removed
        return gone

    def purge_some(self, before: float, tokens_before: float | None = None) -> int:
        """A part of `purge`, in one small transaction, so that a commit waits for no more than that; 0: all is done."""
        with self._write() as connection:
            removed = (connection.execute(statement).rowcount for statement in purging.batches(before, tokens_before))
            return next(filter(None, removed), 0)

    def shrink_some(self) -> bool:
        """Give a part of the room that is not needed back to the file system; False: there is nothing to give.

        A database of an older nanoexec keeps its size, and uses the room again: SQLite shrinks a little at a time only
        what was made for that (https://sqlite.org/pragma.html#pragma_auto_vacuum).
        """
        with self._write() as connection:
            pages, free, mode = (
                int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                for name in ("page_count", "freelist_count", "auto_vacuum")
            )
            if mode != opening.INCREMENTAL or free <= max(purging.PAGES, pages // purging.SPARE):
                return False
            for _ in range(purging.PAGES):  # one at a time: Python's sqlite3 ends this statement after its first page
                connection.exec_driver_sql("PRAGMA incremental_vacuum(1)")
        return True

    def check(self) -> None:
        """Look at the whole file. Raises `StoreError` if it is damaged."""
        with self._read() as connection:
            found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
        if found != "ok":
            raise StoreError(f"{self._path}: is damaged: restore a backup ({found})")

    def forget_tokens(self) -> None:
        """Make every join token that was handed out void."""
        with self._write() as connection:
            connection.execute(sa.delete(tokens))

    def open_triggers(self) -> list[StoredTrigger]:
        """Triggers with a delivery that is not over, or taken back, oldest first, each with all of its deliveries."""
        with self._read() as connection:
            return queries.open_triggers(connection)

    def stored_trigger(self, id_: str) -> StoredTrigger | None:
        """A trigger by its whole id, whatever the state of its deliveries; None when there is none."""
        with self._read() as connection:
            return queries.stored_trigger(connection, id_)

    def roster(self) -> list[Node]:
        """Every node that ever joined, by name, the revoked ones too; none is connected as far as this knows."""
        with self._read() as connection:
            return queries.roster(connection)

    def keys(self) -> dict[str, str]:
        """The certificate ids that are accepted, and the node that each belongs to."""
        with self._read() as connection:
            return queries.keys(connection)

    def tokens(self, now: float) -> list[TokenMade]:
        """Join tokens that still admit somebody; ``uses`` is how often."""
        with self._read() as connection:
            return queries.usable_tokens(connection, now)

    def history(
        self, *, node: str | None = None, action: str | None = None, since: float | None = None, limit: int
    ) -> list[HistoryEntry]:
        """Runs, and deliveries without one, newest first by the hub's clock, at most ``limit``."""
        with self._read() as connection:
            return queries.history(connection, node=node, action=action, since=since, limit=limit)

    def standings(self, action: str) -> dict[str, Standing]:
        """How an action stands on each node that has a run of it, by the hub's clock and the journal's count."""
        with self._read() as connection:
            return queries.standings(connection, action)

    def trigger(self, beginning: str) -> TriggerDetail:
        """The trigger whose id begins so. Raises `UsageError` if there is none, or more than one."""
        with self._read() as connection:
            return queries.trigger_detail(connection, beginning)

    def trigger_id(self, beginning: str) -> str:
        """The whole id of the trigger whose id begins so. Raises `UsageError` if there is none, or more than one."""
        with self._read() as connection:
            return queries.trigger_id(connection, beginning)

    def chain(self, beginning: str, node: str) -> Chain:
        """What is known of that trigger on one node. Raises `UsageError` as `trigger`, or if it was not for it."""
        with self._read() as connection:
            return queries.chain(connection, beginning, node)

    def runs(self, beginning: str) -> list[RunReported]:
        """The run whose id begins so and whose trigger is not known, by node if the trigger was for several.

        Raises `UsageError` if there is none, or more than one id.
        """
        with self._read() as connection:
            return queries.run_reports(connection, beginning)

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with faults(self._path), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with faults(self._path), self._writing.begin() as connection:
            yield connection
