"""Several models on one node: which there are, and why each analysis was made; all so far was regular."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_ALONE = sa.text("state IN ('active', 'shadow')")


def upgrade() -> None:
    # A column's own check, which SQLite can add and drop: others refer to this table, so it stays in place.
    op.execute(
        "ALTER TABLE analysis ADD COLUMN purpose VARCHAR(16) DEFAULT 'regular' NOT NULL "
        "CONSTRAINT ck_analysis_purpose_known CHECK (purpose IN ('regular', 'named', 'shadow'))"
    )
    op.add_column("analysis", sa.Column("counts", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.create_index("ix_analysis_newest", "analysis", ["study_id", "counts", "id"])
    op.drop_index("ix_analysis_study_id", "analysis")
    op.drop_index("ix_analysis_due", "analysis")
    due = ["state", "priority", "model_id", "model_version", "not_before", "id"]
    op.create_index("ix_analysis_due", "analysis", due)
    _create_model_tables()


def _create_model_tables() -> None:
    op.create_table(
        "model",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("demonstration", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("shadow_to", sa.Text(), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("activated_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('active', 'shadow', 'available', 'retired')", name=op.f("ck_model_state_known")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model")),
        sa.UniqueConstraint("model_id", "model_version", name=op.f("uq_model_model_id_model_version")),
    )
    op.create_index(
        "ix_model_alone", "model", ["state"], unique=True, sqlite_where=_ALONE, postgresql_where=_ALONE
    )
    op.create_table(
        "model_activation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model_row_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("rolled_back_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["model_row_id"], ["model.id"], name=op.f("fk_model_activation_model_row_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_activation")),
    )


def downgrade() -> None:
    op.drop_table("model_activation")
    op.drop_index("ix_model_alone", "model")
    op.drop_table("model")
    op.drop_index("ix_analysis_due", "analysis")
    op.create_index("ix_analysis_due", "analysis", ["state", "priority", "not_before", "id"])
    op.create_index("ix_analysis_study_id", "analysis", ["study_id"])
    op.drop_index("ix_analysis_newest", "analysis")
    op.drop_column("analysis", "counts")
    op.drop_column("analysis", "purpose")
