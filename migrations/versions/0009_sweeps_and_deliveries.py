"""When the sweep last ran, and which delivery an operation of a choreographed saga was done for

Revision: 0009, after 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sweeps",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("swept_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sweeps")),
    )
    op.add_column("saga_steps", sa.Column("delivery_id", sa.String(length=36), nullable=True))


def downgrade() -> None:
    op.drop_column("saga_steps", "delivery_id")
    op.drop_table("sweeps")
