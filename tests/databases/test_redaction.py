"""A statement that fails says what went wrong, and not with whose data, in either database."""

import io
import logging
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

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
    with closing(Database(POSTGRESQL)) as database, database.transaction() as session:
        session.execute(text(f"CREATE TEMPORARY TABLE private ({columns})"))
        error = expect_discreet(session, FAILING[sqlstate], log)
    assert getattr(error.orig, "pgcode", None) == sqlstate


def test_the_shop_repeats_no_value(here: Runtime, log: io.StringIO) -> None:
    with here.database.transaction() as session:
        expect_discreet(session, "INSERT INTO orders (id, shipping_address) VALUES ('1', :address)", log)


def expect_discreet(session: Session, statement: str, log: io.StringIO) -> DBAPIError:
    """Let a statement fail and be logged; return the error."""
    with pytest.raises(DBAPIError) as raised:
        try:
            session.execute(text(statement), {"address": ADDRESS})
        except DBAPIError as error:
            logging.getLogger("app.tests").exception("step failed", extra={"reason": format_error(error)})
            raise
        finally:
            session.rollback()
    failed, written = raised.value, log.getvalue()
    assert "step failed" in written and statement[:6] in written and type(failed.orig).__name__ in written
    assert "Sakura" not in written + repr(failed) + repr(failed.orig)
    return failed
