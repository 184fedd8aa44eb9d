"""The names by which seed 000 queries the saga log: a view "sagas", and events with a "created_at"

Revision: 0010, after 0009
"""

import sqlalchemy as sa
from alembic import op

BATCH = 10_000
EVENTS = sa.table(
    "events",
    sa.column("id", sa.Uuid(as_uuid=False)),
    sa.column("timestamp", sa.DateTime(timezone=True)),
    sa.column("created_at", sa.DateTime(timezone=True)),
)
# the id as text: the seed compares it with 'saga-id', which PostgreSQL does not take for a UUID
VIEW = """
    CREATE VIEW sagas AS
    SELECT CAST(id AS VARCHAR(36)) AS id, saga_type, order_id, status, state, current_step, payload, state_history,
           error, stuck_reason, created_at, updated_at
    FROM saga_instances
"""

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        # the server's clock, not the code's: code that does not know the column goes on, and all rows have one clock
        op.execute("ALTER TABLE events ADD COLUMN IF NOT EXISTS created_at TIMESTAMP WITH TIME ZONE")
        op.execute("ALTER TABLE events ALTER COLUMN created_at SET DEFAULT clock_timestamp()")
        fill_in_batches()
    else:
        op.execute('ALTER TABLE events ADD COLUMN created_at DATETIME GENERATED ALWAYS AS ("timestamp") VIRTUAL')
    op.execute(VIEW)


def downgrade() -> None:
    op.execute("DROP VIEW sagas")
    op.drop_column("events", "created_at")


def fill_in_batches() -> None:
    """Give the events that are there already a time; each batch is a transaction, and a second attempt goes on."""
    connection = op.get_bind()
    last: str | None = "00000000-0000-0000-0000-000000000000"
    with op.get_context().autocommit_block():
        while last:
            later = EVENTS.c.id > last
            empty = sa.update(EVENTS).where(EVENTS.c.created_at.is_(None), later)
            last = connection.scalar(
                sa.select(EVENTS.c.id).where(later).order_by(EVENTS.c.id).offset(BATCH - 1).limit(1)
            )
            batch = empty.where(EVENTS.c.id <= last) if last else empty
            connection.execute(batch.values(created_at=EVENTS.c.timestamp))
