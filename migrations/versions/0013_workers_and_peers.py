"""Which workers run, and whether what the node sends to is up."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_KNOWN = (
    "INSERT INTO peer_seen (kind, name, last_success_at, failure)"
    " SELECT 'destination', destination, max(sent_at), '' FROM delivery"
    " WHERE sent_at IS NOT NULL GROUP BY destination",
    "INSERT INTO peer_seen (kind, name, last_success_at, failure)"
    " SELECT 'webhook', webhook, max(sent_at), '' FROM webhook_call"
    " WHERE sent_at IS NOT NULL GROUP BY webhook",
)


def upgrade() -> None:
    op.create_table(
        "peer_seen",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("last_success_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_failure_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failure", sa.Text(), nullable=False),
        sa.Column("down_since", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('destination', 'webhook')", name=op.f("ck_peer_seen_kind_known")),
        sa.PrimaryKeyConstraint("kind", "name", name=op.f("pk_peer_seen")),
    )
    for statement in _KNOWN:
        op.execute(statement)
    op.create_index("ix_webhook_call_of", "webhook_call", ["state", "webhook", "created_at"])
    op.create_table(
        "worker_process",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("in_hand", sa.Integer(), nullable=False),
        sa.Column("busy_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("beaten_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worker_process")),
    )


def downgrade() -> None:
    op.drop_table("worker_process")
    op.drop_index("ix_webhook_call_of", "webhook_call")
    op.drop_table("peer_seen")
