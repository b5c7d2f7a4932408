"""Version 1: the first one."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

still_open = sa.text("state IN ('acknowledged', 'pending', 'running', 'sent')")
untold = sa.text("state != 'finished'")


def upgrade() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )
    op.create_table(
        "triggers",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("action", sa.String(63), nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("nodes", sa.Text, nullable=False),
        sa.Column("issued", sa.Double, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("timeout", sa.Double),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_triggers"),
    )
    op.create_index("ix_triggers_issued", "triggers", ["issued"])
    op.create_table(
        "deliveries",
        sa.Column("trigger", sa.String(16), nullable=False),
        sa.Column("node", sa.String(253), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("updated", sa.Double, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("trigger", "node", name="pk_deliveries"),
        sa.ForeignKeyConstraint(["trigger"], ["triggers.id"], name="fk_deliveries_trigger", ondelete="CASCADE"),
    )
    op.create_index(
        "ix_deliveries_open", "deliveries", ["trigger"], sqlite_where=still_open, postgresql_where=still_open
    )
    op.create_index("ix_deliveries_untold", "deliveries", ["updated"], sqlite_where=untold, postgresql_where=untold)
    op.create_index(
        "ix_deliveries_untold_node", "deliveries", ["node", "updated"], sqlite_where=untold, postgresql_where=untold
    )
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
        sa.Column("shared", sa.String(16)),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("head", sa.LargeBinary, nullable=False),
        sa.Column("tail", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("node", "id", name="pk_runs"),
    )
    op.create_index("ix_runs_id", "runs", ["id"])
    op.create_index("ix_runs_reported", "runs", ["reported"])
    op.create_index("ix_runs_node", "runs", ["node", "reported"])
    op.create_index("ix_runs_action", "runs", ["action", "reported"])
    op.create_index("ix_runs_standing", "runs", ["node", "action", "reported", "change", "outcome"])
    op.create_table(
        "nodes",
        sa.Column("name", sa.String(253), nullable=False),
        sa.Column("key", sa.String(16), nullable=False),
        sa.Column("joined", sa.Double, nullable=False),
        sa.Column("seen", sa.Double),
        sa.Column("skew", sa.Double),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("actions", sa.Text, nullable=False),
        sa.Column("revoked", sa.Double),
        sa.PrimaryKeyConstraint("name", name="pk_nodes"),
    )
    op.create_table(
        "certificates",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("node", sa.String(253), nullable=False),
        sa.Column("accepted", sa.Double, nullable=False),
        sa.Column("ended", sa.Double),
        sa.Column("ending", sa.String(16)),
        sa.PrimaryKeyConstraint("id", name="pk_certificates"),
    )
    op.create_index("ix_certificates_node", "certificates", ["node"])
    op.create_table(
        "tokens",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
        sa.Column("uses", sa.Integer, nullable=False),
        sa.Column("node", sa.String(253)),
        sa.PrimaryKeyConstraint("digest", name="pk_tokens"),
    )
    op.execute("INSERT INTO meta (key, value) VALUES ('kind', 'nanoexec hub')")
