"""Version 4: an index of what was taken back, also where the hub has concluded that it expired or is lost."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    taken_back = sa.text("cancelled IS NOT NULL AND state IN ('cancelled', 'expired', 'lost')")
    op.drop_index("ix_deliveries_cancelled", "deliveries")
    op.create_index(
        "ix_deliveries_taken_back", "deliveries", ["trigger"], sqlite_where=taken_back, postgresql_where=taken_back
    )
