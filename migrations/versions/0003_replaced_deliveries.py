"""A delivery may be replaced: its destination takes no such objects, and gets another one."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BEFORE = ("due", "sent", "committed", "refused", "withdrawn")


def upgrade() -> None:
    _allow((*_BEFORE, "replaced"))


def downgrade() -> None:
    op.execute("UPDATE delivery SET state = 'refused' WHERE state = 'replaced'")
    _allow(_BEFORE)


def _allow(states: tuple[str, ...]) -> None:
    name, known = op.f("ck_delivery_state_known"), f"state IN ({', '.join(map(repr, states))})"
    if op.get_bind().dialect.name == "sqlite":
        # SQLite cannot change a constraint: the rows move into a new table
        table = _table(sa.CheckConstraint(known, name=name))
        with op.batch_alter_table("delivery", recreate="always", copy_from=table):
            return
    op.drop_constraint(name, "delivery", type_="check")
    op.create_check_constraint(name, "delivery", known)


def _table(known: sa.CheckConstraint) -> sa.Table:
    return sa.Table(
        "delivery",
        sa.MetaData(),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("result_id", sa.Integer(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        known,
        sa.ForeignKeyConstraint(["result_id"], ["result.id"], name="fk_delivery_result_id"),
        sa.PrimaryKeyConstraint("id", name="pk_delivery"),
        sa.UniqueConstraint("result_id", "destination", name="uq_delivery_result_id_destination"),
        sa.Index("ix_delivery_state_not_before", "state", "not_before"),
    )
