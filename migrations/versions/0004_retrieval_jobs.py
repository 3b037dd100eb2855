"""Jobs that retrieve old studies from a peer, and their studies."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "retrieval_job",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("filters", sa.Text(), nullable=False),
        sa.Column("method", sa.String(length=8), nullable=False),
        sa.Column("again", sa.Boolean(), nullable=False),
        sa.Column("rate_per_hour", sa.Double(), nullable=False),
        sa.Column("daily_window", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("questions_answered", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("away", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('finding', 'running', 'paused', 'done', 'cancelled')", name="state_known"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_retrieval_job"),
    )
    op.create_index("ix_retrieval_job_state_not_before", "retrieval_job", ["state", "not_before"])

    op.create_table(
        "retrieval_study",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("accession_number", sa.Text(), nullable=False),
        sa.Column("study_date", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("images_expected", sa.Integer(), nullable=False),
        sa.Column("images_come", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'running', 'done', 'failed', 'skipped')", name="state_known"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["retrieval_job.id"], name="fk_retrieval_study_job_id"),
        sa.PrimaryKeyConstraint("id", name="pk_retrieval_study"),
        sa.UniqueConstraint(
            "job_id", "study_instance_uid", name="uq_retrieval_study_job_id_study_instance_uid"
        ),
    )
    op.create_index(
        "ix_retrieval_study_job_id_state_not_before", "retrieval_study", ["job_id", "state", "not_before"]
    )


def downgrade() -> None:
    op.drop_table("retrieval_study")
    op.drop_table("retrieval_job")
