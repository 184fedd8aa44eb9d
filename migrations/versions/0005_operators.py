"""What operators did, and what an installation makes for itself: its key and its operators' password

Revision: 0005, after 0004
"""

import sqlalchemy as sa
from alembic import op

UUID = sa.Uuid(as_uuid=False).with_variant(sa.String(length=36), "sqlite")

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "installation",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_installation")),
    )
    op.create_table(
        "operator_acts",
        sa.Column("id", UUID, nullable=False),
        sa.Column("saga_id", UUID, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("act", sa.String(length=16), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operator_acts")),
    )
    op.create_index("ix_operator_acts_saga_id", "operator_acts", ["saga_id"])


def downgrade() -> None:
    op.drop_table("operator_acts")
    op.drop_table("installation")
