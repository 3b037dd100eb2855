"""Indices for a job's progress and its failed studies, for who has sent when, and for beginnings of UIDs."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_HAS_FAILED = sa.text("state = 'failed'")


def upgrade() -> None:
    op.create_index("ix_instance_heard", "instance", ["calling_ae_title", "received_at", "study_id"])
    op.create_index(
        "ix_retrieval_study_progress",
        "retrieval_study",
        ["job_id", "state", "images_expected", "images_come"],
    )
    op.create_index("ix_retrieval_study_ended", "retrieval_study", ["finished_at", "job_id"])
    op.create_index(
        "ix_retrieval_study_failed",
        "retrieval_study",
        ["job_id", "id"],
        sqlite_where=_HAS_FAILED,
        postgresql_where=_HAS_FAILED,
    )

    if op.get_bind().dialect.name == "postgresql":
        op.create_index(
            "ix_study_uid_begins",
            "study",
            ["study_instance_uid"],
            postgresql_ops={"study_instance_uid": "varchar_pattern_ops"},
        )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_index("ix_study_uid_begins", table_name="study")
    for name in ("failed", "ended", "progress"):
        op.drop_index(f"ix_retrieval_study_{name}", table_name="retrieval_study")
    op.drop_index("ix_instance_heard", table_name="instance")
