"""A statement that fails says what went wrong, and not with whose data, in either database."""

import io
import logging
from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.database import Database
from app.errors import format_error
from app.observability.logging import configure_logging
from app.runtime import Runtime
from tests.testkit.servers import POSTGRESQL, require_postgresql

ADDRESS = "9 Sakura Street"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("INFO", stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.parametrize("sqlstate", ["23502", "23505", "23514", "22P02", "22001", "42P01"])
def test_postgresql_repeats_no_value(sqlstate: str, log: io.StringIO) -> None:
    require_postgresql()
    database = Database(POSTGRESQL)
    table = f"private_{uuid4().hex[:12]}"
    failing = {
        "23502": f"INSERT INTO {table} (address) VALUES (:address)",  # quotes the row
        "23505": f"INSERT INTO {table} (id, address) VALUES (1, :address), (2, :address)",  # quotes the key
        "23514": f"INSERT INTO {table} (id, address) VALUES (-1, :address)",
        "22P02": "SELECT CAST(:address AS integer)",  # quotes the value in its first line
        "22001": f"INSERT INTO {table} (id, address) VALUES (1, :address || '0123456789')",
        "42P01": "SELECT :address FROM nowhere",  # quotes the statement as it was sent
    }[sqlstate]
    columns = "id integer NOT NULL CHECK (id > 0), address varchar(20) UNIQUE"
    try:
        with pytest.raises(DBAPIError) as raised, database.transaction() as session:
            session.execute(text(f"CREATE TEMPORARY TABLE {table} ({columns})"))
            session.execute(text(failing), {"address": ADDRESS})
        assert getattr(raised.value.orig, "pgcode", None) == sqlstate
        expect_discreet(raised.value, log, says=failing.split()[0])
    finally:
        database.close()


def test_the_shop_repeats_no_value(here: Runtime, log: io.StringIO) -> None:
    with pytest.raises(DBAPIError) as raised, here.database.transaction() as session:
        session.execute(text("INSERT INTO orders (id, shipping_address) VALUES ('1', :address)"), {"address": ADDRESS})
    expect_discreet(raised.value, log, says="INSERT INTO orders")


def expect_discreet(error: DBAPIError, log: io.StringIO, says: str) -> None:
    try:
        raise error
    except DBAPIError as caught:
        logging.getLogger("app.tests").exception("step failed", extra={"reason": format_error(caught)})
    written = log.getvalue()
    assert "step failed" in written and says in written and type(error.orig).__name__ in written
    assert "Sakura" not in written
    assert "Sakura" not in repr(error) + repr(error.orig)
