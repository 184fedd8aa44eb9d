"""Alembic's entry point: run migrations so that they do not block a running shop."""

import logging
import time
from collections.abc import Sequence
from typing import Literal

from alembic import context
from sqlalchemy import Connection, MetaData, text

import workflows  # noqa: F401  (declares every table)
from app.database import METADATA, Database, UtcDateTime
from app.migrations import ADVISORY_LOCK_KEY, LOCK_TIMEOUT_SECONDS, belongs_to_models
from app.settings import Settings

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2


def render_item(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Render our own column type as SQLAlchemy's, so that a migration does not depend on the application's code."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def take_turn(connection: Connection) -> None:
    """Acquire the advisory lock on migrations; it is held until the connection is closed.

    Also sets the lock timeout of the connection.
    """
    told = False
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": ADVISORY_LOCK_KEY}):
        # polled: a session that blocks on the lock keeps a snapshot, for which CREATE INDEX CONCURRENTLY would wait
        connection.commit()
        if not told:
            logger.warning("another process is migrating this database: waiting for its end")
            told = True
        time.sleep(POLL_SECONDS)
    # a statement that waits for a table's lock blocks every later one on the same table, so it must give up soon
    connection.execute(text(f"SET lock_timeout = '{int(LOCK_TIMEOUT_SECONDS * 1000)}ms'"))
    connection.commit()


def run(metadata: Sequence[MetaData]) -> None:
    """Run the migrations on the database of Alembic's configuration, or else of the settings.

    On PostgreSQL each migration is a transaction of its own, so that no lock is held longer than one migration takes.
    """
    url = context.config.attributes.get("database_url") or Settings().database_url
    database = Database(url)
    try:
        with database.engine.connect() as connection:
            on_postgresql = connection.dialect.name == "postgresql"
            if on_postgresql:
                take_turn(connection)
            context.configure(
                connection=connection,
                target_metadata=metadata,
                render_item=render_item,
                include_object=belongs_to_models,
                render_as_batch=not on_postgresql,
                transaction_per_migration=on_postgresql,
            )
            with context.begin_transaction():
                context.run_migrations()
            connection.commit()
    finally:
        database.close()


run(METADATA)
