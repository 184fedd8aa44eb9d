"""Databases of PostgreSQL: one with all that a shop can hold, and one with nothing."""

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine

from tests.testkit.servers import fresh_postgresql_database, require_postgresql


@pytest.fixture
def filled(filled_postgresql: str) -> Iterator[str]:
    """The URL of a database at the newest schema, with orders of all kinds."""
    with fresh_postgresql_database(filled_postgresql) as url:
        yield url


@pytest.fixture
def empty() -> Iterator[str]:
    """The URL of an empty database."""
    require_postgresql()
    with fresh_postgresql_database() as url:
        yield url


@pytest.fixture
def engine(filled: str) -> Iterator[Engine]:
    """Connections to ``filled``, where no autovacuum has a table when a test wants it."""
    engine = create_engine(filled)
    with engine.begin() as connection:
        tables = connection.scalars(text("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"))
        for table in tables.all():
            connection.execute(text(f"ALTER TABLE {table} SET (autovacuum_enabled = off)"))
    yield engine
    engine.dispose()
