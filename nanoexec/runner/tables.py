"""The journal's tables as SQL: text without msgspec, for a crontab slot that is skipped reads it too (`glance`)."""

VERSION = 2
OLDEST = 1  # what can be upgraded, and what a slot of a crontab can use as it is
UPGRADE = (  # from 1 to 2
    "ALTER TABLE runs ADD COLUMN cancelled REAL",
    "ALTER TABLE runs ADD COLUMN canceller TEXT NOT NULL DEFAULT ''",
)
SCHEMA = f"""
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
    cancelled  REAL,               -- when somebody wanted it stopped; the outcome says whether that came in time
    canceller  TEXT NOT NULL DEFAULT '',
    size       INTEGER NOT NULL,
    head       BLOB NOT NULL,      -- last: a scan does not read what overflows the page
    tail       BLOB NOT NULL
);
CREATE UNIQUE INDEX runs_by_change ON runs (change);
CREATE INDEX runs_by_action ON runs (action, started);
CREATE INDEX runs_open ON runs (action) WHERE outcome IS NULL;
PRAGMA user_version = {VERSION};
"""
ENDING = (  # what is said when a run ends
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
GIVEN = (
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
LEDGER = ("change", "admitted", "began", "cancelled", "canceller")  # what only the journal itself can say
RUN = (*GIVEN, *LEDGER)  # the columns of a `Run`
NEXT = "(SELECT coalesce(max(change), 0) + 1 FROM runs)"
ADMIT = (
    f"INSERT INTO runs ({', '.join(GIVEN)}, ticks, expires, change, admitted, began)"  # noqa: S608 - constants
    f" VALUES ({', '.join(f':{column}' for column in GIVEN)}, :ticks, :expires, {NEXT}, {NEXT},"
    f" iif(:started IS NULL, NULL, {NEXT})) ON CONFLICT (id) DO NOTHING"
)
