"""A hub's database with years of history in it, made in seconds."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from nanoexec.model import ID_ALPHABET
from nanoexec.store.schema import deliveries, runs, triggers

NODES: Final = 500
DAY: Final = 86400.0
_OUTPUT: Final = "a line of output, as most tools print it\n" * 4
assert set("0123456789") <= set(ID_ALPHABET)
_COUNTED: Final = "WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n + 1 < :count)"
# Of every two runs of a node one was triggered and one was cron's. Triggers have even numbers, and all nodes.
_TRIGGER: Final = {
    "id": "printf('%016d', 2 * n)",
    "action": "'true'",
    "target": "'ALL'",
    "nodes": "'ALL'",
    "issued": ":oldest + n * :step",
    "expires": ":oldest + n * :step + 3600",
    "by": "'root'",
    "arguments": "'{}'",
    "command": "'[]'",
    "body": "x'00'",
    "signature": "x''",
}
_DELIVERY: Final = {
    "trigger": f"printf('%016d', 2 * (n / {NODES}))",
    "node": f"printf('old%03d', n % {NODES})",
    "state": "'finished'",
    "updated": f":oldest + (n / {NODES}) * :step + 2",
    "reason": "''",
    "sent": f":oldest + (n / {NODES}) * :step",
}
_RUN: Final = {
    "node": f"printf('old%03d', n % {NODES})",
    "id": f"printf('%016d', n / {NODES})",
    "trigger": f"iif(n / {NODES} % 2, NULL, printf('%016d', n / {NODES}))",
    "action": "'true'",
    "cause": f"iif(n / {NODES} % 2, 'schedule', 'trigger')",
    "by": "'root'",
    "change": f"n / {NODES}",
    "reported": f":oldest + (n / {NODES}) * :step / 2 + 2",
    "requested": f":oldest + (n / {NODES}) * :step / 2",
    "started": f":oldest + (n / {NODES}) * :step / 2",
    "ended": f":oldest + (n / {NODES}) * :step / 2 + 1",
    "duration": "1.0",
    "outcome": "'succeeded'",
    "reason": "''",
    "status": "0",
    "boot": "'boot'",
    "supervisor": "1",
    "pid": "2",
    "admitted": "n",
    "canceller": "''",
    "arguments": "'{}'",
    "command": """'["/bin/true"]'""",
    "size": f"{len(_OUTPUT)}",
    "head": f"CAST('{_OUTPUT}' AS BLOB)",
    "tail": "x''",
}


def fill(path: Path, count: int, oldest: float, newest: float) -> None:
    """Put so many runs into the database of a hub that is down, evenly over these times."""
    issued = count // NODES // 2
    values = {"oldest": oldest, "step": (newest - oldest) / issued}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA cache_size = -1000000")  # KiB: all of it
        connection.execute("PRAGMA synchronous = OFF")  # nobody would miss it
        for table, columns, rows in (
            (triggers, _TRIGGER, issued),
            (deliveries, _DELIVERY, issued * NODES),
            (runs, _RUN, count),
        ):
            required = {column.name for column in table.c if not column.nullable}
            assert required <= set(columns), f"the schema has changed: {required - set(columns)}"
            names = ", ".join(f'"{name}"' for name in columns)
            insert = f"INSERT INTO {table.name} ({names}) {_COUNTED} SELECT {', '.join(columns.values())} FROM c"  # noqa: S608 - ours
            connection.execute(insert, values | {"count": rows})


class Look:
    """Another reader of the same database."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def older(self, before: float) -> int:
        """How many runs were reported before then."""
        return self._one("SELECT count(*) FROM runs WHERE reported < ?", before)

    def any_older(self, before: float) -> bool:
        return bool(self._one("SELECT EXISTS (SELECT 1 FROM runs WHERE reported < ?)", before))

    def deliveries(self) -> int:
        return self._one("SELECT count(*) FROM deliveries")

    def rows(self, *tables: str) -> dict[str, int]:
        """How many rows there are, by table; unless told, of those that grow with a hub's history."""
        return {
            table: self._one(f"SELECT count(*) FROM {table}")  # noqa: S608 - ours
            for table in tables or ("triggers", "deliveries", "runs")
        }

    def pages(self) -> tuple[int, int]:
        """How many pages the file has, and how many of them are free."""
        return self._one("PRAGMA page_count"), self._one("PRAGMA freelist_count")

    def _one(self, question: str, *values: float) -> int:
        with closing(sqlite3.connect(self.path, timeout=30.0)) as connection:
            return int(connection.execute(question, values).fetchone()[0])
