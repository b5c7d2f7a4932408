"""Version 3: the hub knows how far each node's journal is stored, so that a restored one can ask for the rest."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    with op.batch_alter_table("nodes", recreate="always") as table:
        table.add_column(sa.Column("relayed", sa.Text))
