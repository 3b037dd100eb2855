"""What is analysed and delivered first, and who asked an admin's actions; all so far was routine."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0003"
branch_labels = None
depends_on = None

_ROUTINE = "1"


def upgrade() -> None:
    for table in ("study", "analysis", "delivery"):
        op.add_column(table, sa.Column("priority", sa.Integer(), server_default=_ROUTINE, nullable=False))
    op.create_index("ix_analysis_due", "analysis", ["state", "priority", "not_before", "id"])
    op.create_index("ix_delivery_due", "delivery", ["state", "destination", "priority", "not_before", "id"])
    op.create_index("ix_study_accession_number", "study", ["accession_number"])
    # An image that is removed is looked for among those that were read.
    op.create_index("ix_analysis_image_instance_id", "analysis_image", ["instance_id"])
    op.create_table(
        "audit_event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("asked", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_event")),
    )
    op.create_index(op.f("ix_audit_event_at"), "audit_event", ["at"])


def downgrade() -> None:
    op.drop_table("audit_event")
    op.drop_index("ix_analysis_image_instance_id", "analysis_image")
    op.drop_index("ix_study_accession_number", "study")
    op.drop_index("ix_delivery_due", "delivery")
    op.drop_index("ix_analysis_due", "analysis")
    for table in ("delivery", "analysis", "study"):
        op.drop_column(table, "priority")
