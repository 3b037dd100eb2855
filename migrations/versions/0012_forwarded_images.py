"""A delivery may be of an image, and analyses may be told to webhooks."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_ONE_OBJECT = "(result_id IS NULL) <> (instance_id IS NULL)"


def upgrade() -> None:
    with op.batch_alter_table("delivery") as delivery:
        delivery.alter_column("result_id", existing_type=sa.Integer(), nullable=True)
        delivery.add_column(sa.Column("instance_id", sa.Integer(), nullable=True))
        delivery.add_column(sa.Column("looks", sa.Integer(), server_default=sa.text("0"), nullable=False))
        delivery.create_foreign_key("fk_delivery_instance_id", "instance", ["instance_id"], ["id"])
        delivery.create_unique_constraint(
            "uq_delivery_instance_id_destination", ["instance_id", "destination"]
        )
        delivery.create_check_constraint(op.f("ck_delivery_one_object"), _ONE_OBJECT)
    op.create_table(
        "webhook_call",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("analysis_id", sa.Integer(), nullable=False),
        sa.Column("webhook", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("body_digest", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('due', 'sent', 'refused', 'withdrawn')", name=op.f("ck_webhook_call_state_known")
        ),
        sa.ForeignKeyConstraint(["analysis_id"], ["analysis.id"], name=op.f("fk_webhook_call_analysis_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_call")),
        sa.UniqueConstraint("analysis_id", "webhook", name=op.f("uq_webhook_call_analysis_id_webhook")),
    )
    op.create_index(op.f("ix_webhook_call_state_not_before"), "webhook_call", ["state", "not_before"])


def downgrade() -> None:
    op.drop_table("webhook_call")
    op.execute("DELETE FROM delivery WHERE result_id IS NULL")
    with op.batch_alter_table("delivery") as delivery:
        delivery.drop_constraint(op.f("ck_delivery_one_object"), type_="check")
        delivery.drop_constraint("uq_delivery_instance_id_destination", type_="unique")
        delivery.drop_constraint("fk_delivery_instance_id", type_="foreignkey")
        delivery.drop_column("looks")
        delivery.drop_column("instance_id")
        delivery.alter_column("result_id", existing_type=sa.Integer(), nullable=False)
