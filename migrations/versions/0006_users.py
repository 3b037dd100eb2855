"""Users of the pages and their sessions; indexes for lists of a million studies."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_IN_CONFLICT = sa.text("state = 'conflict'")


def upgrade() -> None:
    op.create_table(
        "web_user",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("role IN ('viewer', 'operator', 'admin')", name=op.f("ck_web_user_role_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_web_user")),
        sa.UniqueConstraint("name", name=op.f("uq_web_user_name")),
    )
    op.create_table(
        "web_session",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["web_user.id"], name=op.f("fk_web_session_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_web_session")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_web_session_token_hash")),
    )
    op.create_index(op.f("ix_web_session_user_id"), "web_session", ["user_id"])
    op.create_index(op.f("ix_web_session_expires_at"), "web_session", ["expires_at"])
    op.create_index("ix_study_received", "study", ["receiving_since", "id"])
    op.create_index(op.f("ix_study_study_date"), "study", ["study_date"])
    op.create_index("ix_finding_label", "finding", ["label", "analysis_id", "score"])
    op.create_index("ix_delivery_sent", "delivery", ["destination", "sent_at"])
    op.create_index(
        "ix_instance_conflict",
        "instance",
        ["study_id"],
        sqlite_where=_IN_CONFLICT,
        postgresql_where=_IN_CONFLICT,
    )


def downgrade() -> None:
    op.drop_index("ix_instance_conflict", "instance")
    op.drop_index("ix_delivery_sent", "delivery")
    op.drop_index("ix_finding_label", "finding")
    op.drop_index(op.f("ix_study_study_date"), "study")
    op.drop_index("ix_study_received", "study")
    op.drop_table("web_session")
    op.drop_table("web_user")
