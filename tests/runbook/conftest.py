"""The runbook's SQL is PostgreSQL's."""

from collections.abc import Iterator

import pytest

from app.migrations import migrate
from app.settings import Settings
from tests.testkit.servers import fresh_postgresql_database, require_postgresql


@pytest.fixture
def settings() -> Iterator[Settings]:
    """Those of a shop on a database of PostgreSQL of its own."""
    require_postgresql()
    with fresh_postgresql_database() as url:
        migrate(url)
        yield Settings(database_url=url, broker_url="memory://", fault_injection=True)
