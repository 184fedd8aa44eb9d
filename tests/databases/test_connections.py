"""How often a connection to PostgreSQL is asked whether it still works, and what happens when it does not."""

import select
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from app import database_pings
from app.database import Database
from tests.stacks import POSTGRESQL, require_postgresql


@pytest.fixture
def connected() -> Iterator[Database]:
    """A database whose pool has one connection, which was used a moment ago."""
    require_postgresql()
    connected = Database(POSTGRESQL)
    use(connected)
    yield connected
    connected.close()


@pytest.fixture
def pings(connected: Database, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connections that were asked."""
    pings: list[Any] = []
    ping = connected.engine.dialect.do_ping

    def noted(connection: Any) -> bool:
        pings.append(connection)
        return ping(connection)

    monkeypatch.setattr(connected.engine.dialect, "do_ping", noted)
    return pings


@pytest.fixture
def rested(connected: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every connection count as one that has rested."""
    monkeypatch.setattr(database_pings, "RESTED_SECONDS", 0)


@pytest.fixture
def not_rested(connected: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no connection count as one that has rested, however slow the machine is."""
    monkeypatch.setattr(database_pings, "RESTED_SECONDS", float("inf"))


def use(connected: Database) -> int:
    with connected.transaction() as session:
        return int(session.connection().scalar(text("SELECT pg_backend_pid()")) or 0)


def by_another(statement: str, **parameters: Any) -> None:
    """Run a statement on a connection of its own."""
    another = create_engine(POSTGRESQL, isolation_level="AUTOCOMMIT")
    with another.connect() as connection:
        connection.execute(text(statement), parameters)
    another.dispose()


@pytest.mark.usefixtures("not_rested")
def test_a_connection_that_was_just_used_is_not_asked(connected: Database, pings: list[Any]) -> None:
    assert use(connected) == use(connected)
    assert pings == []


@pytest.mark.usefixtures("rested")
def test_one_that_has_rested_is_asked_once_a_transaction(connected: Database, pings: list[Any]) -> None:
    assert use(connected) == use(connected)
    assert len(pings) == 2


@pytest.mark.usefixtures("not_rested")
def test_one_that_the_server_closed_is_replaced_however_lately_it_was_used(connected: Database) -> None:
    before = use(connected)
    by_another("SELECT pg_terminate_backend(:pid, 5000)", pid=before)

    assert use(connected) != before


@pytest.mark.usefixtures("not_rested")
def test_one_that_the_server_said_something_to_is_asked_and_kept(connected: Database, pings: list[Any]) -> None:
    with connected.transaction() as session:
        session.execute(text("LISTEN test_of_connections"))
        listening = session.connection().connection.fileno()
    by_another("NOTIFY test_of_connections")
    select.select([listening], [], [], 10)

    kept = use(connected)

    assert len(pings) == 1
    assert use(connected) == kept
    assert len(pings) == 1


@pytest.mark.usefixtures("rested")
def test_a_new_one_is_not_asked(connected: Database, pings: list[Any]) -> None:
    connected.engine.dispose()

    use(connected)

    assert pings == []
