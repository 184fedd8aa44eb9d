"""Where each saga waits and since when, and how far each queue has been served

Revision: 0012, after 0011
"""

import sqlalchemy as sa
from alembic import op

UUID = sa.Uuid(as_uuid=False).with_variant(sa.String(length=36), "sqlite")
QUEUED = sa.text("queue IS NOT NULL")

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("saga_instances", sa.Column("queue", sa.String(length=255), nullable=True))
    op.add_column("saga_instances", sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True))
    # it begins empty: no row has a queue yet
    op.create_index(
        "ix_saga_instances_queue_ready_at",
        "saga_instances",
        ["queue", "ready_at"],
        postgresql_where=QUEUED,
        sqlite_where=QUEUED,
    )
    op.create_table(
        "queue_progress",
        sa.Column("queue", sa.String(length=255), nullable=False),
        sa.Column("process_id", UUID, nullable=False),
        sa.Column("served_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("queue", "process_id", name=op.f("pk_queue_progress")),
    )


def downgrade() -> None:
    op.drop_table("queue_progress")
    op.drop_index("ix_saga_instances_queue_ready_at", "saga_instances")
    op.drop_column("saga_instances", "ready_at")
    op.drop_column("saga_instances", "queue")
