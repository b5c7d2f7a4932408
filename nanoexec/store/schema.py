"""What the hub keeps, table by table. SQLite is the embedded default; every type and index also exists in PostgreSQL.

This is the newest schema; ``migrations/`` leads a file of any version to it, and a test compares the two. Times are
seconds since the epoch by the hub's clock unless the comment says otherwise. Where a column has the name of a field in
``nanoexec.model``, it is that field. JSON is kept as text: nothing here looks inside.
"""

from typing import Final

import sqlalchemy as sa

from nanoexec.model import FINAL, NODES_WORD, OPEN, DeliveryState

METADATA: Final = sa.MetaData()

_ID: Final = sa.String(16)
_NAME: Final = sa.String(253)
_ACTION: Final = sa.String(63)
_WORD: Final = sa.String(16)  # the value of an enumeration

# Facts about this database itself. `kind` tells it from any other SQLite file.
meta: Final = sa.Table(
    "meta",
    METADATA,
    sa.Column("key", sa.String(64), nullable=False),
    sa.Column("value", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("key", name="pk_meta"),
)

# Triggers as they were issued. `body` and `signature` are what nodes verify; the other columns say it for reading.
triggers: Final = sa.Table(
    "triggers",
    METADATA,
    sa.Column("id", _ID, nullable=False),
    sa.Column("action", _ACTION, nullable=False),
    sa.Column("target", sa.Text, nullable=False),  # as the operator wrote it
    sa.Column("nodes", sa.Text, nullable=False),  # ALL, or the folded node set it meant
    sa.Column("issued", sa.Double, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("arguments", sa.Text, nullable=False),  # JSON object of strings
    sa.Column("timeout", sa.Double),  # seconds; null: what the node's manifest says
    sa.Column("command", sa.Text, nullable=False),  # JSON array of strings, empty but for `exec`
    sa.Column("body", sa.LargeBinary, nullable=False),  # the exact bytes that were issued
    sa.Column("signature", sa.LargeBinary, nullable=False),  # Ed25519 over `body`; empty when not signed
    sa.PrimaryKeyConstraint("id", name="pk_triggers"),
    sa.Index("ix_triggers_issued", "issued"),
)

# One row per trigger and node, from the moment the trigger is accepted.
deliveries: Final = sa.Table(
    "deliveries",
    METADATA,
    sa.Column("trigger", _ID, nullable=False),
    sa.Column("node", _NAME, nullable=False),
    sa.Column("state", _WORD, nullable=False),  # model.DeliveryState
    sa.Column("updated", sa.Double, nullable=False),  # when it came into this state
    sa.Column("reason", sa.Text, nullable=False),  # why it is in this state; empty when that needs no saying
    sa.Column("sent", sa.Double),  # when it first came into this state, as in the next two; null: it did not
    sa.Column("acknowledged", sa.Double),
    sa.Column("running", sa.Double),
    sa.Column("cancelled", sa.Double),  # when an operator first took it back
    sa.Column("canceller", sa.Text),  # who that was
    sa.PrimaryKeyConstraint("trigger", "node", name="pk_deliveries"),
    sa.ForeignKeyConstraint(["trigger"], ["triggers.id"], name="fk_deliveries_trigger", ondelete="CASCADE"),
)

# Indexes over a part of the table serve the queries that say the same condition, with the same literals. A finished
# delivery is told in the history by its run.
is_open: Final = deliveries.c.state.in_([sa.literal_column(f"'{state}'") for state in sorted(OPEN)])
# Taken back, and its node has not said what became of it.
is_taken_back: Final = deliveries.c.cancelled.is_not(None) & deliveries.c.state.in_(
    [sa.literal_column(f"'{state}'") for state in sorted(FINAL - NODES_WORD)]
)
is_untold: Final = deliveries.c.state != sa.literal_column(f"'{DeliveryState.FINISHED}'")

sa.Index("ix_deliveries_open", deliveries.c.trigger, sqlite_where=is_open, postgresql_where=is_open)
sa.Index("ix_deliveries_taken_back", deliveries.c.trigger, sqlite_where=is_taken_back, postgresql_where=is_taken_back)
sa.Index("ix_deliveries_untold", deliveries.c.updated, sqlite_where=is_untold, postgresql_where=is_untold)
sa.Index(
    "ix_deliveries_untold_node",
    deliveries.c.node,
    deliveries.c.updated,
    sqlite_where=is_untold,
    postgresql_where=is_untold,
)

# Runs that nodes reported, whatever caused them. What the journal says of processes and of its own order is kept for
# proofs. The output stands last: SQLite reads a row no further than the last column it is asked for.
runs: Final = sa.Table(
    "runs",
    METADATA,
    sa.Column("node", _NAME, nullable=False),
    sa.Column("id", _ID, nullable=False),  # the trigger's id for a triggered run, else the node's own
    sa.Column("trigger", _ID),  # the same id if a trigger caused the run, else null
    sa.Column("action", _ACTION, nullable=False),
    sa.Column("cause", _WORD, nullable=False),  # model.Cause
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("change", sa.BigInteger, nullable=False),  # the node's counter: a higher one is newer
    sa.Column("reported", sa.Double, nullable=False),  # when the hub heard it
    sa.Column("requested", sa.Double, nullable=False),  # the node's clock
    sa.Column("started", sa.Double),  # the node's clock; null: it never started
    sa.Column("ended", sa.Double),  # the node's clock
    sa.Column("duration", sa.Double),  # seconds by the node's monotonic clock
    sa.Column("outcome", _WORD),  # model.Outcome
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("status", sa.Integer),  # exit status, or minus the number of the signal that ended it
    sa.Column("changed", sa.Boolean),  # whether the tool changed the machine; null: it did not say
    sa.Column("boot", sa.Text, nullable=False),  # of the node, with `supervisor` and `pid`: which processes they were
    sa.Column("supervisor", sa.Integer, nullable=False),
    sa.Column("pid", sa.Integer),
    sa.Column("admitted", sa.BigInteger, nullable=False),  # counted like `change`; 0: the node did not say
    sa.Column("began", sa.BigInteger),  # the same
    sa.Column("cancelled", sa.Double),  # the node's clock: when it noted that somebody wanted it stopped
    sa.Column("canceller", sa.Text, nullable=False),
    sa.Column("shared", _ID),  # the run whose outcome this is, when this one was coalesced into it
    sa.Column("arguments", sa.Text, nullable=False),  # JSON object of strings
    sa.Column("command", sa.Text, nullable=False),  # JSON array of strings: the argv that ran
    sa.Column("size", sa.BigInteger, nullable=False),  # bytes the command printed in all
    sa.Column("head", sa.LargeBinary, nullable=False),  # the first bytes of them
    sa.Column("tail", sa.LargeBinary, nullable=False),  # the last bytes of them
    sa.PrimaryKeyConstraint("node", "id", name="pk_runs"),
    sa.Index("ix_runs_id", "id"),
    sa.Index("ix_runs_reported", "reported"),
    sa.Index("ix_runs_node", "node", "reported"),
    sa.Index("ix_runs_action", "action", "reported"),
    sa.Index("ix_runs_standing", "node", "action", "reported", "change", "outcome"),
)

# The roster: every machine that ever joined.
nodes: Final = sa.Table(
    "nodes",
    METADATA,
    sa.Column("name", _NAME, nullable=False),
    sa.Column("key", _ID, nullable=False),  # the id of its newest certificate
    sa.Column("joined", sa.Double, nullable=False),  # when it got that certificate
    sa.Column("seen", sa.Double),  # its last hello; null: it has not spoken since it joined
    sa.Column("skew", sa.Double),  # node clock minus hub clock, seconds
    sa.Column("version", sa.Text, nullable=False),  # of nanoexec on it
    sa.Column("actions", sa.Text, nullable=False),  # JSON array of model.ActionOffer
    sa.Column("revoked", sa.Double),  # null: welcome
    sa.Column("relayed", sa.Text),  # JSON of model.Cursor: how far its journal is stored here; null: nothing agreed on
    sa.PrimaryKeyConstraint("name", name="pk_nodes"),
)

# Every certificate a node name ever had. Rows are never deleted: an old key must stay out.
certificates: Final = sa.Table(
    "certificates",
    METADATA,
    sa.Column("id", _ID, nullable=False),  # the certificate's CN
    sa.Column("node", _NAME, nullable=False),
    sa.Column("accepted", sa.Double, nullable=False),  # since when
    sa.Column("ended", sa.Double),  # until when; null: it still is accepted
    sa.Column("ending", _WORD),  # `replaced` by a newer one of that name, or `revoked`
    sa.PrimaryKeyConstraint("id", name="pk_certificates"),
    sa.Index("ix_certificates_node", "node"),
)

# Join tokens that were handed out.
tokens: Final = sa.Table(
    "tokens",
    METADATA,
    sa.Column("digest", sa.String(64), nullable=False),  # SHA-256 of the secret, hex; the secret is kept nowhere
    sa.Column("expires", sa.Double, nullable=False),
    sa.Column("uses", sa.Integer, nullable=False),  # how many are left; none or fewer: used up
    sa.Column("node", _NAME),  # the only name it may join; null: any
    sa.PrimaryKeyConstraint("digest", name="pk_tokens"),
)
