"""How often a connection to PostgreSQL is asked whether it still works, and what happens when it does not."""

import select
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from app.database import Database, connections
from app.errors import DatabaseUnavailable
from app.runtime import Runtime
from app.settings import Settings
from tests.testkit.processes import wait_for
from tests.testkit.servers import POSTGRESQL, fresh_postgresql_database, require_postgresql


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database whose pool has one connection. None counts as one that has rested, however slow the machine is."""
    require_postgresql()
    monkeypatch.setattr(connections, "PING_AFTER_IDLE_SECONDS", float("inf"))
    connected = Database(POSTGRESQL)
    use(connected)
    yield connected
    connected.close()


@pytest.fixture
def ping(connected: Database, monkeypatch: pytest.MonkeyPatch) -> Mock:
    """How a connection is asked, which is counted."""
    dialect = connected.engine.dialect
    monkeypatch.setattr(dialect, "do_ping", ping := Mock(side_effect=dialect.do_ping))
    return ping


def use(connected: Database) -> int:
    with connected.transaction() as session:
        return int(session.connection().scalar(text("SELECT pg_backend_pid()")) or 0)


def by_another(statement: str, **parameters: Any) -> None:
    """Run a statement on a connection of its own."""
    another = create_engine(POSTGRESQL, isolation_level="AUTOCOMMIT")
    with another.connect() as connection:
        connection.execute(text(statement), parameters)
    another.dispose()


def test_a_connection_is_asked_once_a_transaction_if_it_has_rested_and_is_not_new(
    connected: Database, ping: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert use(connected) == use(connected)
    assert ping.call_count == 0

    monkeypatch.setattr(connections, "PING_AFTER_IDLE_SECONDS", 0)  # every one counts as one that has rested
    assert use(connected) == use(connected)
    assert ping.call_count == 2

    connected.engine.dispose()
    use(connected)
    assert ping.call_count == 2


def test_one_that_the_server_closed_is_replaced_and_one_that_it_said_something_to_is_asked_however_lately_it_was_used(
    connected: Database, ping: Mock
) -> None:
    before = use(connected)
    by_another("SELECT pg_terminate_backend(:pid, 60000)", pid=before)
    assert (kept := use(connected)) != before
    ping.reset_mock()

    with connected.transaction() as session:
        session.execute(text("LISTEN test_of_connections"))
        listening = session.connection().connection.fileno()
    by_another("NOTIFY test_of_connections")
    assert select.select([listening], [], [], 60)[0]

    assert [use(connected), use(connected)] == [kept, kept]
    assert ping.call_count == 1


def test_a_connection_has_what_the_engine_needs_whatever_the_servers_defaults_are() -> None:
    def shown(session: Session, *names: str) -> list[str]:
        return [str(session.connection().scalar(text(f"SHOW {name}"))) for name in names]

    timeouts = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    require_postgresql()
    with fresh_postgresql_database() as url:
        for name, value in {"default_transaction_isolation": "serializable", **dict.fromkeys(timeouts, "0")}.items():
            by_another(f"ALTER DATABASE {make_url(url).database} SET {name} = '{value}'")
        settings = Settings(
            database_url=f"{url}?options=-c synchronous_commit=off",
            database_lock_timeout_seconds=1.5,
            database_statement_timeout_seconds=20,
            database_idle_transaction_seconds=7,
        )
        with closing(Runtime(settings)) as here:
            with here.database.snapshot() as session:
                assert shown(session, "transaction_isolation", *timeouts) == ["repeatable read", "1500ms", "0", "0"]
            for begin in (here.database.transaction, here.database.reading):
                with begin() as session:
                    wanted = ["read committed", "1500ms", "20s", "7s", "off"]
                    assert shown(session, "transaction_isolation", *timeouts, "synchronous_commit") == wanted
        with closing(Database(url)) as of_a_migration, of_a_migration.transaction() as session:
            assert shown(session, "transaction_isolation", "statement_timeout") == ["read committed", "0"]


def test_a_process_that_uses_no_connection_for_a_while_leaves_it_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    require_postgresql()
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.1)
    role = f"shop_{uuid4().hex[:12]}"
    by_another(f"CREATE ROLE {role} LOGIN PASSWORD 'secret' CONNECTION LIMIT 1")
    url = make_url(POSTGRESQL).set(username=role, password="secret").render_as_string(hide_password=False)

    def connects(database: Database) -> bool:
        with suppress(DatabaseUnavailable):
            return bool(use(database))
        return False

    with closing(Database(url)) as first, closing(Database(url)) as second:
        with first.reading(), pytest.raises(DatabaseUnavailable, match="too many connections"), second.reading():
            pass
        for one in (second, first):  # one after the other, and the first again
            wait_for("the other to close its connection", partial(connects, one))
    by_another(f"DROP ROLE {role}")


def test_of_a_pool_that_is_in_use_the_unused_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    require_postgresql()
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.2)
    closed: list[object] = []
    with closing(Database(POSTGRESQL)) as database, database.reading() as held:
        event.listen(database.engine, "close", lambda connection, _: closed.append(connection))
        held.execute(text("SELECT 1"))
        with database.reading(), database.reading():
            pass
        wait_for("the two others to be closed", lambda: len(closed) == 2)
        held.execute(text("SELECT 1"))
