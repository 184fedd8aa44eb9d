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


def test_the_schema_is_what_the_models_say_and_goes_down_and_up_again(database_url: str) -> None:
    migrate(database_url)
    database = Database(database_url)
    with database.engine.connect() as connection:
        compared = MigrationContext.configure(connection, opts={"include_object": belongs_to_models})
        assert compare_metadata(compared, METADATA) == []  # type: ignore[arg-type]  # it takes several
    indexes = inspect(database.engine).get_indexes("saga_instances")
    sweep = next(index for index in indexes if index["column_names"] == ["wake_at"])
    assert "wake_at IS NOT NULL" in str(sweep["dialect_options"][f"{database.engine.dialect.name}_where"])

    command.downgrade(config(database_url), "base")

    assert set(inspect(database.engine).get_table_names()) == {"alembic_version"}
    for _ in range(2):  # and a second time nothing is lost
        migrate(database_url)
        with database.transaction() as session:
            session.execute(text("INSERT INTO customers VALUES ('customer-001', 'n', 'e') ON CONFLICT DO NOTHING"))
    assert set(all_tables()) <= set(inspect(database.engine).get_table_names())
    database.close()
