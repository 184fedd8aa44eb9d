"""The migrations are the only way the schema is made, so they must make what the models say."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

import workflows  # noqa: F401  (declares every table)
from app.database import METADATA, Database, all_tables
from app.migrations import belongs_to_models, config, migrate
from tests.testkit.servers import fresh_postgresql_database, require_postgresql

# an index of an expression cannot be read back from SQLite, as both say; on PostgreSQL it is compared
pytestmark = [
    pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index"),
    pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index"),
]


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'migrated.db'}"
        return
    require_postgresql()
    with fresh_postgresql_database() as url:
        yield url


def test_migrations_and_models_agree(database_url: str) -> None:
    migrate(database_url)

    database = Database(database_url)
    with database.engine.connect() as connection:
        compared = MigrationContext.configure(connection, opts={"include_object": belongs_to_models})
        differences = compare_metadata(compared, METADATA)  # type: ignore[arg-type]  # it takes several
    database.close()

    assert differences == []


def test_the_schema_goes_down_and_up_again(database_url: str) -> None:
    migrate(database_url)
    command.downgrade(config(database_url), "base")

    database = Database(database_url)
    assert set(inspect(database.engine).get_table_names()) == {"alembic_version"}
    migrate(database_url)
    assert set(all_tables()) <= set(inspect(database.engine).get_table_names())
    database.close()


def test_migrating_twice_keeps_the_data(database_url: str) -> None:
    migrate(database_url)
    database = Database(database_url)
    with database.transaction() as session:
        session.execute(text("INSERT INTO customers VALUES ('customer-001', 'n', 'e')"))

    migrate(database_url)

    with database.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM customers")) == 1
    database.close()


def test_the_sweep_uses_the_index_over_unfinished_sagas_only(database_url: str) -> None:
    migrate(database_url)
    database = Database(database_url)
    with database.reading() as session:
        definition = next(
            index
            for index in inspect(database.engine).get_indexes("saga_instances")
            if index["column_names"] == ["wake_at"]
        )
        dialect = session.get_bind().dialect.name
    database.close()

    assert "wake_at IS NOT NULL" in str(definition["dialect_options"][f"{dialect}_where"])
