"""What is tested here depends on the database, so it is tested on each: SQLite, and PostgreSQL where it answers."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Connection, make_url

from app.runtime import Runtime
from app.settings import Settings
from tests.databases.plans import Executed
from tests.testkit.servers import fresh_postgresql_database


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    """Settings with a database of the test's own. Nothing is overdue unless a test's clock says so by an hour."""
    patient = settings.but(step_timeout_seconds=3600, order_timeout_seconds=3600, stall_seconds=10)
    if request.param == "sqlite":
        yield patient
        return
    with fresh_postgresql_database(request.getfixturevalue("seeded_postgresql")) as url:
        # a commit need not wait for the disk: no test pulls the plug
        quick = make_url(url).update_query_dict({"options": "-c synchronous_commit=off"})
        yield patient.but(database_url=quick.render_as_string(hide_password=False))


@pytest.fixture
def executed(here: Runtime) -> Iterator[list[Executed]]:
    """Every statement from here on, as it goes to the driver."""
    statements: list[Executed] = []

    def note(_: Connection, __: object, statement: str, parameters: Any, *___: object) -> None:
        each = parameters if isinstance(parameters, list) else [parameters]
        statements.extend((statement, one) for one in each)

    event.listen(here.database.engine, "before_cursor_execute", note)
    yield statements
    event.remove(here.database.engine, "before_cursor_execute", note)
