"""Everything here runs on PostgreSQL too, whose driver raises where SQLite stores."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from app.migrations import migrate
from app.settings import Settings
from tests.testkit.client import PASSWORD, Browser
from tests.testkit.servers import fresh_postgresql_database, require_postgresql
from workflows.seed_data import seed


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def database_url(
    request: pytest.FixtureRequest, seeded_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("input") / "test.db"
        path.write_bytes(seeded_database.read_bytes())
        yield f"sqlite:///{path}"
        return
    require_postgresql()
    with fresh_postgresql_database() as url:
        migrate(url)
        yield url


@pytest.fixture
def settings(settings: Settings, database_url: str) -> Settings:
    return settings.but(database_url=database_url, operator_password=PASSWORD)


@pytest.fixture
def client(flask_app: Flask, no_messages: None) -> Browser:
    """An operator: whoever may do more meets more of the code."""
    seed()
    client = Browser(flask_app)
    assert client.log_in().status_code == 303
    return client
