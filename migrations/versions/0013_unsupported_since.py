"""When a sweep first found that its process cannot move a saga

Revision: 0013, after 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("saga_instances", sa.Column("unsupported_since", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("saga_instances", "unsupported_since")
