"""Transactions over the application's own sessions, and what is called after their commit."""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any

from sqlalchemy import Connection, Engine, Table, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session, SessionTransaction, sessionmaker

from durable_sagas.database.clock import ServerClock
from durable_sagas.database.faults import is_fault, sqlstate_of
from durable_sagas.errors import DatabaseUnavailable

logger = logging.getLogger(__name__)


WRITER_TIMEOUT_SECONDS = 30
"""How long a transaction on SQLite waits for the writers before it."""

_CALLBACKS = "durable_sagas.after_commit"
_SAVEPOINTS = "durable_sagas.savepoints"
_COMMITTED = "durable_sagas.committed"


class Database:
    """Transactions in sessions that ``sessions`` makes, such as a ``sessionmaker``. It opens no connection by itself.

    Every transaction raises DatabaseUnavailable if the database, and not the statement, is at fault. The engine relies
    on seeing what was committed while it waited for a row lock: use PostgreSQL's default, READ COMMITTED.
    """

    def __init__(self, sessions: Callable[[], Session]) -> None:
        self.sessions = sessions
        # SQLite allows one writer at a time, and the others poll: some of them for seconds
        self._writer = threading.RLock()
        self.now: Callable[[], datetime] = lambda: self._clock.now() if self._clock else datetime.now(UTC)
        """Returns the time of the database's clock; for SQLite, a file of this machine, that of this machine."""
        if isinstance(sessions, sessionmaker) and sessions.kw.get("bind") is not None:
            # SQLAlchemy cannot add a listener to a pool while another thread connects: add the clock's at once
            self._clock  # noqa: B018

    @cached_property
    def _bind(self) -> Engine:
        with self.sessions() as session:
            bind = session.get_bind()
        return bind if isinstance(bind, Engine) else bind.engine

    @cached_property
    def _clock(self) -> ServerClock | None:
        return ServerClock(self._bind) if self._bind.dialect.name == "postgresql" else None

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Run the block in one transaction: commit at its end, roll back on any exception.

        Callbacks registered by ``after_commit`` run after the commit, in order, and never after a rollback.
        """
        with database_faults(), self._one_writer(), self._session() as session:
            session.info[_CALLBACKS] = []
            with current(session), session.begin():
                self._take_write_lock(session)
                yield session
            callbacks = take_callbacks(session)
        _call(callbacks)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Run the block in a read-only transaction; on SQLite it takes no write lock."""
        with database_faults(), self._session() as session, session.begin():
            session.connection(execution_options={"sqlite_read_only": True})
            yield session

    def _take_write_lock(self, session: Session) -> None:
        """Begin as a writer on SQLite, which has no row locks: what is read must not change before it is written."""
        if self._bind.dialect.name == "sqlite":
            connection: Any = session.connection().connection.dbapi_connection
            if not connection.in_transaction:  # else the application's engine has begun it, which then does the same
                connection.execute("BEGIN IMMEDIATE")

    def _session(self) -> Session:
        session = self.sessions()
        session.expire_on_commit = False
        return session

    @contextmanager
    def _one_writer(self) -> Iterator[None]:
        if self._bind.dialect.name != "sqlite":
            yield
            return
        if not self._writer.acquire(timeout=WRITER_TIMEOUT_SECONDS):
            raise DatabaseUnavailable("another thread has been writing for too long")
        try:
            yield
        finally:
            self._writer.release()


@contextmanager
def database_faults() -> Iterator[None]:
    """Raise DatabaseUnavailable for errors in the block that are the database's fault; others propagate unchanged."""
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        if not is_fault(error):
            raise
        original = getattr(error, "orig", None)
        raise DatabaseUnavailable(str(original or error).strip(), sqlstate_of(original)) from error


def prepare_sqlite(engine: Engine) -> None:
    """Configure a SQLite engine: WAL, foreign keys, explicit BEGIN."""
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # the driver's own implicit BEGIN is deferred: two such readers that both want to write fail with SQLITE_BUSY
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get("sqlite_read_only")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


_current: ContextVar[Session | None] = ContextVar("current_transaction", default=None)


@contextmanager
def current(session: Session) -> Iterator[None]:
    """Make a session that of the current transaction in the block."""
    token = _current.set(session)
    try:
        yield
    finally:
        _current.reset(token)


def current_transaction() -> Session:
    """Return the session of this thread's innermost transaction. Raises LookupError outside any."""
    session = _current.get()
    if session is None:
        raise LookupError("there is no transaction")
    return session


def after_commit(session: Session, callback: Callable[[], object]) -> None:
    """Call ``callback`` after the session's transaction has committed; messages must not be sent earlier.

    It is called in the present context (``contextvars``), also for a session that the application commits itself.
    """
    if _CALLBACKS not in session.info:
        session.info[_CALLBACKS] = []
        event.listen(session, "after_transaction_create", _mark_savepoint)
        event.listen(session, "after_soft_rollback", _drop_rolled_back)
        event.listen(session, "after_commit", _mark_committed)
        event.listen(session, "after_transaction_end", _call_if_committed)
    session.info[_CALLBACKS].append(partial(copy_context().run, callback))


def _mark_savepoint(session: Session, transaction: SessionTransaction) -> None:
    if transaction.nested:
        session.info.setdefault(_SAVEPOINTS, {})[transaction] = len(session.info.get(_CALLBACKS, ()))


def _drop_rolled_back(session: Session, previous: SessionTransaction) -> None:
    """Drop the callbacks that were registered in a transaction, or since a savepoint, that was rolled back."""
    # one that began before there was a callback is not marked
    del session.info.get(_CALLBACKS, [])[session.info.get(_SAVEPOINTS, {}).pop(previous, 0) :]


def _mark_committed(session: Session) -> None:
    if session.in_nested_transaction():
        return  # the release of a savepoint
    session.info[_COMMITTED] = session.info.get(_CALLBACKS)
    session.info[_CALLBACKS] = []


def _call_if_committed(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        session.info[_CALLBACKS] = []  # of a transaction that was closed without an end
        session.info.pop(_SAVEPOINTS, None)
        # only now is the connection free: a callback may need one
        _call(session.info.pop(_COMMITTED, None) or [])


def _call(callbacks: Iterable[Callable[[], object]]) -> None:
    for callback in callbacks:
        try:
            callback()
        except Exception:
            # the commit stands, and the others must be called
            logger.exception("a callback after the commit failed")


def take_callbacks(session: Session) -> list[Callable[[], object]]:
    """Remove and return the callbacks registered by ``after_commit``, for the caller to run after the commit."""
    callbacks: list[Callable[[], object]] = session.info.get(_CALLBACKS, [])
    session.info[_CALLBACKS] = []
    return callbacks


class Effects:
    """What has been written in a transaction, or registered to be called after its commit, since ``mark``."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._writes = 0
        self._marked = (0, 0)

    def mark(self) -> None:
        """Count from here."""
        self._session.flush()
        self._marked = self._counts()

    def __bool__(self) -> bool:
        session = self._session
        return bool(session.new or session.dirty or session.deleted) or self._counts() != self._marked

    def note_statement(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        """Count a statement that writes."""
        self._writes += not statement.startswith("SELECT")

    def _counts(self) -> tuple[int, int]:
        return self._writes, len(self._session.info.get(_CALLBACKS, ()))


@contextmanager
def watched_effects(session: Session) -> Iterator[Effects]:
    """Yield the effects of the block."""
    effects, connection = Effects(session), session.connection()
    event.listen(connection, "before_cursor_execute", effects.note_statement)
    try:
        yield effects
    finally:
        event.remove(connection, "before_cursor_execute", effects.note_statement)


def insert_if_absent(session: Session, model: type[DeclarativeBase]) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT of the session's dialect that supports ``on_conflict``."""
    return insert_in(dialect_of(session), model)


def insert_in(dialect: str, model: type[DeclarativeBase] | Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT of a dialect that supports ``on_conflict``."""
    return postgresql.insert(model) if dialect == "postgresql" else sqlite.insert(model)


def dialect_of(session: Session) -> str:
    """Return the name of the session's dialect."""
    return session.get_bind().dialect.name
