"""Breaks the database: the n-th time that it is asked for anything, in one of the ways in which it can fail."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, text

from app.runtime import Runtime

Fail = Callable[[Any], None]
"""Raises what the driver raises, given its connection."""


class Breaker:
    """Counts what is asked of a database, in points: connections, statements and commits; breaks one of each turn.

    A turn is whatever a test makes of it, such as one delivery of one message: it ``begins``, and its n-th ``point``,
    counted from 1, is broken. A broken statement or commit is not executed; with ``answer_lost`` only commits count,
    and the broken one is executed, and fails afterwards.
    """

    def __init__(self, point: int, fail: Fail, *, answer_lost: bool = False) -> None:
        self.point = point
        self.fail = fail
        self.answer_lost = answer_lost
        self.broken: list[str] = []
        self._asked = 0

    def begin(self) -> None:
        """Begin a turn."""
        self._asked = 0

    def rest(self) -> None:
        """Break nothing until the next turn begins."""
        self._asked = self.point

    def ask(self, what: str, connection: Any) -> None:
        self._asked += 1
        if self._asked == self.point:
            self.broken.append(what)
            self.fail(connection)

    @contextmanager
    def at_work(self, here: Runtime) -> Iterator[None]:
        """Stand between the engine and the driver."""
        engine = here.database.engine
        dialect: Any = engine.dialect
        connect, commit = engine.raw_connection, dialect.do_commit

        def raw_connection() -> Any:
            connection = connect()
            try:
                self.ask("connect", connection.driver_connection)
            except BaseException:
                connection.invalidate()
                raise
            return connection

        def do_commit(connection: Any) -> None:
            if self.answer_lost:
                commit(connection)
                self.ask("commit", connection.driver_connection)
            else:
                self.ask("commit", connection.driver_connection)
                commit(connection)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dialect, "do_commit", do_commit)
            if not self.answer_lost:
                patch.setattr(engine, "raw_connection", raw_connection)
                for name in ("do_execute", "do_executemany", "do_execute_no_params"):
                    patch.setattr(dialect, name, self._asking(getattr(dialect, name)))
            yield

    def _asking(self, execute: Callable[..., None]) -> Callable[..., None]:
        def asked(cursor: Any, statement: str, *arguments: Any, **options: Any) -> None:
            self.ask(statement.split("\n", 1)[0], cursor.connection)
            execute(cursor, statement, *arguments, **options)

        return asked


def raising(code: str) -> str:
    """Return a statement that has PostgreSQL raise an error: the driver makes of it what it makes of a real one."""
    return f"DO $$ BEGIN RAISE EXCEPTION 'broken by the test' USING ERRCODE = '{code}'; END $$"


def sqlstate(code: str) -> Fail:
    """Have the server itself raise an error."""

    def fail(connection: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(raising(code))

    return fail


def terminated(administrator: Connection) -> Fail:
    """Have the server end the connection, as an administrator or a restart would; the next use of it finds out."""

    def fail(connection: Any) -> None:
        # it waits for the end
        administrator.execute(text("SELECT pg_terminate_backend(:pid, 60000)"), {"pid": connection.info.backend_pid})
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    return fail


def lost(connection: Any) -> None:
    """Say what the driver of PostgreSQL says when the server has gone without a word."""
    raise connection.OperationalError("server closed the connection unexpectedly")


def sqlite_error(kind: type[sqlite3.Error], code: int, message: str) -> Fail:
    """Raise what the driver of SQLite raises for a result code."""

    def fail(_: Any) -> None:
        error = kind(message)
        error.sqlite_errorcode = code
        raise error

    return fail
