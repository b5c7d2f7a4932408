"""Version 2: when a delivery was sent, heard of and taken back, and by whom; where on its node a run was.

Both tables are made anew, because SQLite adds columns only at the end, and the output is to stay there.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

still_open = sa.text("state IN ('acknowledged', 'pending', 'running', 'sent')")
cancelled = sa.text("state = 'cancelled'")
untold = sa.text("state != 'finished'")
deliveries_before = "trigger, node, state, updated, reason"
runs_before = (
    'node, id, "trigger", action, cause, "by", change, reported, requested, started, ended, duration, outcome, reason,'
    " status, changed, shared, arguments, command, size, head, tail"
)


def upgrade() -> None:
    _deliveries()
    _runs()


def _deliveries() -> None:
    for index in ("ix_deliveries_open", "ix_deliveries_untold", "ix_deliveries_untold_node"):
        op.drop_index(index, "deliveries")
    op.rename_table("deliveries", "deliveries_before")
    op.create_table(
        "deliveries",
        sa.Column("trigger", sa.String(16), nullable=False),
        sa.Column("node", sa.String(253), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("updated", sa.Double, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("sent", sa.Double),
        sa.Column("acknowledged", sa.Double),
        sa.Column("running", sa.Double),
        sa.Column("cancelled", sa.Double),
        sa.Column("canceller", sa.Text),
        sa.PrimaryKeyConstraint("trigger", "node", name="pk_deliveries"),
        sa.ForeignKeyConstraint(["trigger"], ["triggers.id"], name="fk_deliveries_trigger", ondelete="CASCADE"),
    )
    columns = deliveries_before.replace("trigger", '"trigger"')
    op.execute(f"INSERT INTO deliveries ({columns}) SELECT {columns} FROM deliveries_before")  # noqa: S608 - constants
    op.drop_table("deliveries_before")
    op.create_index(
        "ix_deliveries_open", "deliveries", ["trigger"], sqlite_where=still_open, postgresql_where=still_open
    )
    op.create_index(
        "ix_deliveries_cancelled", "deliveries", ["trigger"], sqlite_where=cancelled, postgresql_where=cancelled
    )
    op.create_index("ix_deliveries_untold", "deliveries", ["updated"], sqlite_where=untold, postgresql_where=untold)
    op.create_index(
        "ix_deliveries_untold_node", "deliveries", ["node", "updated"], sqlite_where=untold, postgresql_where=untold
    )


def _runs() -> None:
    indexes = {
        "ix_runs_id": ["id"],
        "ix_runs_reported": ["reported"],
        "ix_runs_node": ["node", "reported"],
        "ix_runs_action": ["action", "reported"],
        "ix_runs_standing": ["node", "action", "reported", "change", "outcome"],
    }
    for index in indexes:
        op.drop_index(index, "runs")
    op.rename_table("runs", "runs_before")
    op.create_table(
        "runs",
        sa.Column("node", sa.String(253), nullable=False),
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("trigger", sa.String(16)),
        sa.Column("action", sa.String(63), nullable=False),
        sa.Column("cause", sa.String(16), nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("change", sa.BigInteger, nullable=False),
        sa.Column("reported", sa.Double, nullable=False),
        sa.Column("requested", sa.Double, nullable=False),
        sa.Column("started", sa.Double),
        sa.Column("ended", sa.Double),
        sa.Column("duration", sa.Double),
        sa.Column("outcome", sa.String(16)),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("changed", sa.Boolean),
        sa.Column("boot", sa.Text, nullable=False),
        sa.Column("supervisor", sa.Integer, nullable=False),
        sa.Column("pid", sa.Integer),
        sa.Column("admitted", sa.BigInteger, nullable=False),
        sa.Column("began", sa.BigInteger),
        sa.Column("cancelled", sa.Double),
        sa.Column("canceller", sa.Text, nullable=False),
        sa.Column("shared", sa.String(16)),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("head", sa.LargeBinary, nullable=False),
        sa.Column("tail", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("node", "id", name="pk_runs"),
    )
    op.execute(
        f"INSERT INTO runs ({runs_before}, boot, supervisor, admitted, canceller)"  # noqa: S608 - constants
        f" SELECT {runs_before}, '', 0, 0, '' FROM runs_before"
    )
    op.drop_table("runs_before")
    for index, columns in indexes.items():
        op.create_index(index, "runs", columns)
