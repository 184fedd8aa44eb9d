"""The runbook's SQL is PostgreSQL's."""

from collections.abc import Iterator

import pytest

from app.settings import Settings
from tests.testkit.servers import fresh_postgresql_database


@pytest.fixture
def settings(seeded_postgresql: str) -> Iterator[Settings]:
    """Those of a shop on a database of PostgreSQL of its own."""
    with fresh_postgresql_database(seeded_postgresql) as url:
        yield Settings(database_url=url, broker_url="memory://", fault_injection=True)
