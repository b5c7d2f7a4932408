"""The journal, for as little as a crontab slot needs that is skipped: one look, one note.

`nanoexec.runner.journal` has everything, and msgspec, whose import takes longer than all of a skip may. What is said
there of commits holds here. The table ``meta`` also keeps what is worth remembering from one slot to the next
(`nanoexec.run.plan`): it is root's alone, and atomic.
"""

import os
import sqlite3
import time

from nanoexec.errors import StoreError
from nanoexec.fallback import Past
from nanoexec.runner import tables

_BUSY_SECONDS = 30.0
_ZEROS = dict.fromkeys(("supervisor", "ticks", "size"), 0)


class Glance:
    """An open journal. Every method raises `StoreError` when the file cannot be used."""

    __slots__ = ("_connection", "_path")

    def __init__(self, path: str) -> None:
        """Open the journal at ``path``, which must be there."""
        self._path = path
        try:
            self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
        except sqlite3.Error as error:
            raise self._fault(error) from None
        ((version,),) = self._ask("PRAGMA user_version", {})
        if not tables.OLDEST <= version <= tables.VERSION:
            advice = "upgrade nanoexec" if version > tables.VERSION else "move the file away"
            raise StoreError(f"{path}: the journal has version {version}, this side knows {tables.VERSION}: {advice}")

    def memory(self, key: str) -> bytes | None:
        """What `remember` was given for ``key``."""
        found = self._ask("SELECT value FROM meta WHERE key = :key", {"key": key})
        return found[0][0] if found and isinstance(found[0][0], bytes) else None

    def remember(self, key: str, value: bytes) -> None:
        """Keep ``value`` for another slot."""
        self._ask("INSERT OR REPLACE INTO meta VALUES (:key, :value)", {"key": key, "value": value})

    def starts(self, action: str, since: float) -> list[Past]:
        """The runs of ``action`` that started at ``since`` or later."""
        found = self._ask(
            "SELECT started, cause, outcome, shared, arguments FROM runs WHERE action = :action AND started >= :since",
            {"action": action, "since": since},
        )
        return [Past(*row) for row in found]

    def note_skip(self, action: str, *, by: str, reason: str, now: float) -> None:
        """Commit that a slot of ``action`` came at ``now`` and was not used."""
        values = dict.fromkeys(tables.GIVEN) | _ZEROS
        values |= {"id": os.urandom(8).hex(), "action": action, "cause": "schedule", "by": by, "requested": now}
        values |= {"arguments": "{}", "command": "[]", "boot": "", "ended": now, "outcome": "skipped", "reason": reason}
        values |= {"expires": 0.0, "head": b"", "tail": b""}
        self._ask("PRAGMA synchronous = FULL", {})
        self._ask(tables.ADMIT, values)
        stamp = time.time_ns()
        try:  # noqa: SIM105 - importing contextlib is a tenth of a skip
            os.utime(self._path, ns=(stamp, stamp))  # who watches the journal is told: see Journal
        except OSError:
            pass  # it is committed: that counts

    def _ask(self, statement: str, values: dict[str, object]) -> list[sqlite3.Row]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._fault(error) from None

    def _fault(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"{self._path}: cannot use the journal: {error}")
