"""What a saga's steps are to processes of another version, since when one could not move it, and requests to cancel it

Revision: 0011, after 0010
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

MOMENTS = ("cancel_requested_at", "unsupported_since")


def upgrade() -> None:
    outline = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
    op.add_column("saga_instances", sa.Column("outline", outline, nullable=True))
    for name in MOMENTS:
        op.add_column("saga_instances", sa.Column(name, sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    for name in MOMENTS:
        op.drop_column("saga_instances", name)
    op.drop_column("saga_instances", "outline")
