"""What a saga's steps are to processes that do not declare them, and when its cancellation was requested

Revision: 0012, after 0010
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0012"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    outline = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
    op.add_column("saga_instances", sa.Column("outline", outline, nullable=True))
    op.add_column("saga_instances", sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("saga_instances", "cancel_requested_at")
    op.drop_column("saga_instances", "outline")
