"""Findings tell how sure their box is, and whether they are reported; all findings so far were."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("finding", sa.Column("box_score", sa.Double(), nullable=True))
    op.add_column("finding", sa.Column("reported", sa.Boolean(), server_default=sa.true(), nullable=False))


def downgrade() -> None:
    op.drop_column("finding", "reported")
    op.drop_column("finding", "box_score")
