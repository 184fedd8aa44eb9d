"""Alembic's entry point: which models, which database, and how a migration keeps out of the way of a shop at work."""

import logging
import time
from typing import Literal

from alembic import context
from sqlalchemy import Connection, MetaData, text

import workflows  # noqa: F401  (declares every table)
from app.database import Base, Database, Money, UtcDateTime
from app.migrations import LOCK_TIMEOUT_SECONDS, ONE_AT_A_TIME, belongs_to_models
from app.settings import Settings

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2


def render_item(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Write our own column types as the plain ones they stand for, so that a migration never changes with the code."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, Money):
        return "sa.Numeric(12, 2)"
    return False


def take_turn(connection: Connection) -> None:
    """Wait until no other process migrates this database; our turn ends with the connection."""
    told = False
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": ONE_AT_A_TIME}):
        # asked again and again, and not waited for: an index that is made CONCURRENTLY waits for everybody who waits
        connection.commit()
        if not told:
            logger.warning("another process is migrating this database: waiting for its end")
            told = True
        time.sleep(POLL_SECONDS)
    # who waits for a table stands before all who want it after him: so nobody waits for long
    connection.execute(text(f"SET lock_timeout = '{int(LOCK_TIMEOUT_SECONDS * 1000)}ms'"))
    connection.commit()


def run(metadata: MetaData) -> None:
    """Run the migrations on the database of the configuration, or of the environment.

    On PostgreSQL each is a transaction of its own, so that no lock is held for longer than one migration takes.
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


run(Base.metadata)
