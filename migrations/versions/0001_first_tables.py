"""The first tables: study, instance, analysis with its images and findings, result, delivery."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "study",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("accession_number", sa.Text(), nullable=False),
        sa.Column("study_date", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("receiving_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_eligible_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('receiving', 'complete')", name="state_known"),
        sa.PrimaryKeyConstraint("id", name="pk_study"),
        sa.UniqueConstraint("study_instance_uid", name="uq_study_study_instance_uid"),
    )
    op.create_index("ix_study_state_last_eligible_at", "study", ["state", "last_eligible_at"])

    op.create_table(
        "analysis",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("input_digest", sa.String(length=64), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("settings_digest", sa.String(length=64), nullable=False),
        sa.Column("demonstration", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'done', 'not-applicable', 'failed', 'superseded', 'cancelled')",
            name="state_known",
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_analysis_study_id"),
        sa.PrimaryKeyConstraint("id", name="pk_analysis"),
        sa.UniqueConstraint(
            "study_id",
            "input_digest",
            "model_id",
            "model_version",
            "settings_digest",
            name="uq_analysis_identity",
        ),
    )
    op.create_index("ix_analysis_state_not_before", "analysis", ["state", "not_before"])
    op.create_index("ix_analysis_study_id", "analysis", ["study_id"])

    op.create_table(
        "instance",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("eligible", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("calling_ae_title", sa.String(length=16), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('stored', 'conflict')", name="state_known"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_instance_study_id"),
        sa.PrimaryKeyConstraint("id", name="pk_instance"),
        sa.UniqueConstraint("sop_instance_uid", "digest", name="uq_instance_sop_instance_uid_digest"),
    )
    op.create_index("ix_instance_study_id", "instance", ["study_id"])

    op.create_table(
        "analysis_image",
        sa.Column("analysis_id", sa.Integer(), nullable=False),
        sa.Column("instance_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("not_read", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["analysis_id"], ["analysis.id"], name="fk_analysis_image_analysis_id"),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name="fk_analysis_image_instance_id"),
        sa.PrimaryKeyConstraint("analysis_id", "instance_id", name="pk_analysis_image"),
    )
    op.create_table(
        "result",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("analysis_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("template_version", sa.String(length=16), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["analysis_id"], ["analysis.id"], name="fk_result_analysis_id"),
        sa.PrimaryKeyConstraint("id", name="pk_result"),
        sa.UniqueConstraint("sop_instance_uid", name="uq_result_sop_instance_uid"),
    )
    op.create_index("ix_result_analysis_id", "result", ["analysis_id"])

    op.create_table(
        "delivery",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("result_id", sa.Integer(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('due', 'sent', 'committed', 'refused', 'withdrawn')", name="state_known"
        ),
        sa.ForeignKeyConstraint(["result_id"], ["result.id"], name="fk_delivery_result_id"),
        sa.PrimaryKeyConstraint("id", name="pk_delivery"),
        sa.UniqueConstraint("result_id", "destination", name="uq_delivery_result_id_destination"),
    )
    op.create_index("ix_delivery_state_not_before", "delivery", ["state", "not_before"])

    op.create_table(
        "finding",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("analysis_id", sa.Integer(), nullable=False),
        sa.Column("instance_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("x_min", sa.Double(), nullable=True),
        sa.Column("y_min", sa.Double(), nullable=True),
        sa.Column("x_max", sa.Double(), nullable=True),
        sa.Column("y_max", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["analysis_id", "instance_id"],
            ["analysis_image.analysis_id", "analysis_image.instance_id"],
            name="fk_finding_analysis_id",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_finding"),
    )
    op.create_index("ix_finding_analysis_id_instance_id", "finding", ["analysis_id", "instance_id"])


def downgrade() -> None:
    op.drop_index("ix_finding_analysis_id_instance_id", "finding")

    op.drop_table("finding")
    op.drop_index("ix_delivery_state_not_before", "delivery")

    op.drop_table("delivery")
    op.drop_index("ix_result_analysis_id", "result")

    op.drop_table("result")
    op.drop_table("analysis_image")
    op.drop_index("ix_instance_study_id", "instance")

    op.drop_table("instance")
    op.drop_index("ix_analysis_study_id", "analysis")
    op.drop_index("ix_analysis_state_not_before", "analysis")

    op.drop_table("analysis")
    op.drop_index("ix_study_state_last_eligible_at", "study")

    op.drop_table("study")
