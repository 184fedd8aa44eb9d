"""The sweep's index, by which no other can be taken for it

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import op

WAITS = sa.text("wake_at IS NOT NULL")
UNFINISHED = sa.text("status IN ('pending', 'running', 'compensating')")

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    replace_by(WAITS)


def downgrade() -> None:
    replace_by(UNFINISHED)


def replace_by(where: sa.TextClause) -> None:
    op.drop_index("ix_saga_instances_wake_at", "saga_instances")
    op.create_index(
        "ix_saga_instances_wake_at", "saga_instances", ["wake_at"], postgresql_where=where, sqlite_where=where
    )
