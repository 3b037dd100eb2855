"""Destinations may be asked to commit to what was sent to them, and modalities may ask the node."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0014"
branch_labels = None
depends_on = None

LOST = (
    ("requests for storage commitment", "SELECT count(*) FROM commitment"),
    (
        "deliveries that wait for storage commitment",
        "SELECT count(*) FROM delivery WHERE commitment_due_at IS NOT NULL",
    ),
    ("modalities' requests for storage commitment", "SELECT count(*) FROM safekeeping_request"),
    (
        "images that the node has promised to keep",
        "SELECT count(*) FROM instance WHERE committed_until > CURRENT_TIMESTAMP",
    ),
)
_AWAITED = sa.text("commitment_due_at IS NOT NULL")


def upgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    if postgresql:
        # Both locks before what takes long: else a listener that has recorded an image and comes to pass it
        # on waits for us, and we for it, and PostgreSQL breaks off either.
        op.execute("LOCK TABLE instance, delivery IN ACCESS EXCLUSIVE MODE")
    op.create_table(
        "commitment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitment")),
        sa.UniqueConstraint("transaction_uid", name=op.f("uq_commitment_transaction_uid")),
    )
    if postgresql:
        # A key that comes with its column is not looked up for the rows that are there.
        op.execute(
            "ALTER TABLE delivery ADD COLUMN commitment_id INTEGER "
            "CONSTRAINT fk_delivery_commitment_id REFERENCES commitment (id)"
        )
    with op.batch_alter_table("delivery") as delivery:
        if not postgresql:
            delivery.add_column(sa.Column("commitment_id", sa.Integer(), nullable=True))
            delivery.create_foreign_key("fk_delivery_commitment_id", "commitment", ["commitment_id"], ["id"])
        for name in ("commitment_due_at", "committed_at"):
            delivery.add_column(sa.Column(name, sa.DateTime(timezone=True), nullable=True))
        for name in ("commitment_asks", "commitment_failures"):
            delivery.add_column(sa.Column(name, sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_index(
        "ix_delivery_uncommitted",
        "delivery",
        ["destination", "commitment_due_at", "id", "state"],
        sqlite_where=_AWAITED,
        postgresql_where=_AWAITED,
    )
    op.create_table(
        "safekeeping_request",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("ae_title", sa.String(length=16), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("objects", sa.Text(), nullable=False),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('due', 'sent', 'refused', 'withdrawn')",
            name=op.f("ck_safekeeping_request_state_known"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_safekeeping_request")),
        sa.UniqueConstraint(
            "ae_title", "transaction_uid", name=op.f("uq_safekeeping_request_ae_title_transaction_uid")
        ),
    )
    op.create_index(
        op.f("ix_safekeeping_request_state_not_before"), "safekeeping_request", ["state", "not_before"]
    )
    op.add_column("instance", sa.Column("committed_until", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("instance", "committed_until")
    op.drop_table("safekeeping_request")
    op.drop_index("ix_delivery_uncommitted", table_name="delivery")
    with op.batch_alter_table("delivery") as delivery:
        delivery.drop_constraint("fk_delivery_commitment_id", type_="foreignkey")
        for name in (
            *("commitment_failures", "commitment_asks"),
            *("committed_at", "commitment_due_at", "commitment_id"),
        ):
            delivery.drop_column(name)
    op.drop_table("commitment")
