"""Alembic's entry point: which models, which database."""

from typing import Literal

from alembic import context
from sqlalchemy import MetaData

import workflows  # noqa: F401  (declares every table)
from app.database import Base, Database, Money, UtcDateTime
from app.settings import Settings


def render_item(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Write our own column types as the plain ones they stand for, so that a migration never changes with the code."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, Money):
        return "sa.Numeric(12, 2)"
    return False


def run(metadata: MetaData) -> None:
    """Run the migrations in one transaction on the database of the configuration, or of the environment."""
    url = context.config.attributes.get("database_url") or Settings().database_url
    database = Database(url)
    try:
        with database.engine.connect() as connection:
            context.configure(
                connection=connection,
                target_metadata=metadata,
                render_item=render_item,
                render_as_batch=connection.dialect.name == "sqlite",
            )
            with context.begin_transaction():
                context.run_migrations()
            connection.commit()
    finally:
        database.close()


run(Base.metadata)
