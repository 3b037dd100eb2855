"""Every attempt at a delivery, or at a webhook call, is kept; an admin may end a conflict."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

LOST = (
    ("attempts at deliveries", "SELECT count(*) FROM delivery_attempt"),
    ("conflicts that were ended", "SELECT count(*) FROM instance WHERE set_aside_at IS NOT NULL"),
)
_OUTCOMES = "'sent', 'try-again', 'no-association', 'not-shown', 'refused', 'replaced'"


def upgrade() -> None:
    op.add_column("instance", sa.Column("set_aside_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "delivery_attempt",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("delivery_id", sa.Integer(), nullable=True),
        sa.Column("webhook_call_id", sa.Integer(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(f"outcome IN ({_OUTCOMES})", name=op.f("ck_delivery_attempt_outcome_known")),
        sa.CheckConstraint(
            "(delivery_id IS NULL) <> (webhook_call_id IS NULL)",
            name=op.f("ck_delivery_attempt_one_delivery"),
        ),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["delivery.id"], name=op.f("fk_delivery_attempt_delivery_id")
        ),
        sa.ForeignKeyConstraint(
            ["webhook_call_id"], ["webhook_call.id"], name=op.f("fk_delivery_attempt_webhook_call_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery_attempt")),
    )
    for of in ("delivery_id", "webhook_call_id"):
        op.create_index(op.f(f"ix_delivery_attempt_{of}_id"), "delivery_attempt", [of, "id"])


def downgrade() -> None:
    # Held again: a version that knows no admin's decision must not take them for what is true of the image.
    op.execute("UPDATE instance SET state = 'conflict' WHERE set_aside_at IS NOT NULL")
    op.drop_column("instance", "set_aside_at")
    op.drop_table("delivery_attempt")
