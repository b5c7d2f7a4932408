"""The journal's tables, and a run as a row of them."""

from typing import Any, Final

import msgspec

from nanoexec.model import MAX_REASON, Cause, Outcome, Output, Run

VERSION: Final = 1
SCHEMA: Final = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    id         TEXT PRIMARY KEY,
    change     INTEGER NOT NULL,   -- counts the commits of the whole journal; a run has that of its latest
    action     TEXT NOT NULL,
    cause      TEXT NOT NULL,
    by         TEXT NOT NULL,
    requested  REAL NOT NULL,
    arguments  TEXT NOT NULL,      -- JSON object, keys sorted: equal arguments are equal text
    command    TEXT NOT NULL,      -- JSON array
    boot       TEXT NOT NULL,      -- with supervisor and ticks: the process that answers for this run
    supervisor INTEGER NOT NULL,
    ticks      INTEGER NOT NULL,
    expires    REAL NOT NULL,      -- the row is not forgotten while its trigger could still come again
    admitted   INTEGER NOT NULL,   -- the change that admitted it
    began      INTEGER,            -- the change that started it: their order is that of the lock, whatever clocks say
    pid        INTEGER,
    started    REAL,
    ended      REAL,
    duration   REAL,
    outcome    TEXT,
    reason     TEXT NOT NULL,
    status     INTEGER,
    changed    INTEGER,
    shared     TEXT,
    size       INTEGER NOT NULL,
    head       BLOB NOT NULL,      -- last: a scan does not read what overflows the page
    tail       BLOB NOT NULL
);
CREATE UNIQUE INDEX runs_by_change ON runs (change);
CREATE INDEX runs_by_action ON runs (action, started);
CREATE INDEX runs_open ON runs (action) WHERE outcome IS NULL;
PRAGMA user_version = {VERSION};
"""
ENDING: Final = (  # what is said when a run ends
    "ended",
    "duration",
    "outcome",
    "reason",
    "status",
    "changed",
    "shared",
    "pid",
    "size",
    "head",
    "tail",
)
GIVEN: Final = (
    "id",
    "action",
    "cause",
    "by",
    "requested",
    "arguments",
    "command",
    "boot",
    "supervisor",
    "started",
    *ENDING,
)
RUN: Final = (*GIVEN, "change")  # the columns of a `Run`


def row_of(run: Run) -> dict[str, Any]:
    """The columns `GIVEN` of a run."""
    return {
        "id": run.id,
        "action": run.action,
        "cause": run.cause,
        "by": run.by,
        "requested": run.requested,
        "arguments": arguments_text(run),
        "command": command_text(run),
        "boot": run.boot,
        "supervisor": run.supervisor,
        "pid": run.pid,
        "started": run.started,
        "ended": run.ended,
        "duration": run.duration,
        "outcome": run.outcome,
        "reason": run.reason[:MAX_REASON],
        "status": run.status,
        "changed": run.changed,
        "shared": run.shared,
        "size": run.output.size,
        "head": run.output.head,
        "tail": run.output.tail,
    }


def run_of(row: tuple[Any, ...]) -> Run:
    """The run in the columns `RUN`. Raises `ValueError` or `TypeError` for what no run can be."""
    fields = dict(zip(RUN, row, strict=True))
    output = Output(head=fields.pop("head"), tail=fields.pop("tail"), size=fields.pop("size"))
    fields["arguments"] = msgspec.json.decode(fields["arguments"], type=dict[str, str])
    fields["command"] = msgspec.json.decode(fields["command"], type=tuple[str, ...])
    fields["cause"] = Cause(fields["cause"])
    fields["outcome"] = None if fields["outcome"] is None else Outcome(fields["outcome"])
    fields["changed"] = None if fields["changed"] is None else bool(fields["changed"])
    return Run(**fields, output=output)


def arguments_text(run: Run) -> str:
    """How arguments are stored, and compared."""
    return msgspec.json.encode(dict(sorted(run.arguments.items()))).decode()


def command_text(run: Run) -> str:
    """How a command is stored, and compared."""
    return msgspec.json.encode(run.command).decode()
