"""Who said that a compensation was done by hand

Revision: 0002, after 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("saga_steps") as steps:
        steps.add_column(sa.Column("done_by", sa.String(length=200), nullable=True))
        steps.add_column(sa.Column("note", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("saga_steps") as steps:
        steps.drop_column("note")
        steps.drop_column("done_by")
