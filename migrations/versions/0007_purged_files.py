"""Files may be purged while their rows stay; so far none was."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("instance", "result"):
        op.add_column(table, sa.Column("purged_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    for table in ("result", "instance"):
        op.drop_column(table, "purged_at")
