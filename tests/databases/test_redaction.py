"""A statement that fails says what went wrong, and not with whose data, in either database."""

import io
import logging
from collections.abc import Iterator
from contextlib import closing

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


FAILING = {
    "23502": "INSERT INTO private (address) VALUES (:address)",  # quotes the row
    "23505": "INSERT INTO private (id, address) VALUES (1, :address), (2, :address)",  # quotes the key
    "23514": "INSERT INTO private (id, address) VALUES (-1, :address)",
    "22P02": "SELECT CAST(:address AS integer)",  # quotes the value in its first line
    "22001": "INSERT INTO private (id, address) VALUES (1, :address || '0123456789')",
    "42P01": "SELECT :address FROM nowhere",  # quotes the statement as it was sent
}


@pytest.mark.parametrize("sqlstate", FAILING)
def test_postgresql_repeats_no_value(sqlstate: str, log: io.StringIO) -> None:
    require_postgresql()
    columns = "id integer NOT NULL CHECK (id > 0), address varchar(20) UNIQUE"
    with closing(Database(POSTGRESQL)) as database:
        with pytest.raises(DBAPIError) as raised, database.transaction() as session:
            session.execute(text(f"CREATE TEMPORARY TABLE private ({columns})"))
            session.execute(text(FAILING[sqlstate]), {"address": ADDRESS})
        assert getattr(raised.value.orig, "pgcode", None) == sqlstate
        expect_discreet(raised.value, log, says=FAILING[sqlstate].split()[0])


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
