"""The database: one engine per process, explicit transactions, PostgreSQL and SQLite from the same models."""

import math
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from sqlalchemy import (
    JSON,
    DateTime,
    Dialect,
    Engine,
    MetaData,
    Numeric,
    String,
    Table,
    TypeDecorator,
    Uuid,
    create_engine,
    event,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.orm.attributes import instance_dict

from app.database import observers
from app.database.clock import ServerClock
from app.database.errors import faults_named, reconnect_after_server_faults
from app.database.idle import IdleCloser
from app.database.pool import ping_stale_connections
from app.database.redaction import keep_values_out_of_errors
from app.errors import DatabaseUnavailable

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Model = TypeVar("Model", bound="Base")

CENT = Decimal("0.01")

WRITER_TIMEOUT_SECONDS = 30
"""How long a transaction on SQLite waits for the writers before it."""


class UtcDateTime(TypeDecorator[datetime]):
    """A timestamp in UTC, always timezone-aware in Python; SQLite, which has no such type, stores it naive."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return what the database stores."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  (SQLAlchemy's)
        """Return what Python sees."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Money(TypeDecorator[Decimal]):
    """An amount with two decimals. SQLite has no decimal type: it stores a float, rounded when read."""

    impl = Numeric(12, 2)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """Return the column's type in a dialect."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(Numeric(12, 2, asdecimal=False))
        return dialect.type_descriptor(Numeric(12, 2))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        """Return what the database stores."""
        return float(value) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:  # noqa: ARG002  (SQLAlchemy's)
        """Return what Python sees."""
        return None if value is None else Decimal(str(value)).quantize(CENT)


class Base(DeclarativeBase):
    """The base of all models; constraint names follow one convention, so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy reads a plain dict here)
        datetime: UtcDateTime,
        Decimal: Money,
        # None is stored as NULL: a JSON null would be a second kind of nothing in SQL queries
        dict[str, Any]: JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql"),
        list[Any]: JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql"),
    }


UuidText = Uuid(as_uuid=False).with_variant(String(36), "sqlite")
"""A UUID that is text in Python, as in messages and URLs."""


@dataclass(frozen=True)
class Timeouts:
    """PostgreSQL's timeouts for a connection, in seconds; each is reported as DatabaseUnavailable.

    A process frozen in a transaction keeps its row locks until ``idle_transaction`` has passed. A transaction that
    needs one of them fails after ``lock``, so that its thread can do something else meanwhile.
    """

    lock: float
    statement: float
    idle_transaction: float


class Database:
    """One process's access to the database. The first transaction opens the first connection.

    Every transaction raises DatabaseUnavailable if the database, and not the statement, is at fault. Without
    ``timeouts`` the server's defaults apply: a migration may take as long as it needs.
    """

    _writer: "threading.RLock | None" = None
    _clock: ServerClock | None = None
    _idle_closer: IdleCloser | None = None

    def __init__(self, url: str, timeouts: Timeouts | None = None) -> None:
        self.url = url
        if url.startswith("sqlite"):
            # SQLite allows one writer at a time, and the others poll: some of them for seconds
            self._writer = threading.RLock()
            self.engine = _sqlite_engine(url)
        else:
            self.engine = _postgresql_engine(url, timeouts)
            self._clock = ServerClock(self.engine)
            self._idle_closer = IdleCloser(self.engine)
        observers.engine_created(self.engine)

    def now(self) -> datetime:
        """Return the time of the database's clock; for SQLite, a file of this machine, that of this machine."""
        return self._clock.now() if self._clock else datetime.now(UTC)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Run the block in one transaction: commit at its end, roll back on any exception.

        Callbacks registered by ``after_commit`` run after the commit, in order, and never after a rollback.
        """
        with faults_named(), self._one_writer(), Session(self.engine, expire_on_commit=False) as session:
            token = _current.set(session)
            try:
                with session.begin():
                    yield session
            finally:
                _current.reset(token)
            callbacks = taken_from(session)
        for callback in callbacks:
            callback()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Run the block in a read-only transaction; on SQLite it takes no write lock."""
        with self._reading() as session:
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """Run the block in a read-only transaction in which all statements see the same snapshot.

        On PostgreSQL rows deleted meanwhile cannot be vacuumed before its end. It has no time limit, not even while the
        consumer of its results pauses: it locks no rows.
        """
        # every transaction of SQLite is one
        postgresql = self.engine.dialect.name == "postgresql"
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True} if postgresql else {}
        with self._reading(**options) as session:
            if postgresql:
                for timeout in ("statement_timeout", "idle_in_transaction_session_timeout"):
                    session.execute(text(f"SET LOCAL {timeout} = 0"))
            yield session

    def check_writable(self) -> None:
        """Raise DatabaseUnavailable if the database does not accept writes at present."""
        with self.transaction() as session:
            connection = session.connection()  # on SQLite this takes the write lock
            on_postgresql = connection.dialect.name == "postgresql"
            read_only = on_postgresql and connection.scalar(text("SHOW transaction_read_only")) == "on"
        if read_only:
            self.close()  # no statement has failed yet, so the pool still has these connections
            raise DatabaseUnavailable("the server is read-only")

    def forget_connections(self) -> None:
        """Drop inherited connections without closing them: for a child process right after a fork."""
        self.engine.dispose(close=False)
        if self._idle_closer:
            self._idle_closer.reset()
        if self._writer:
            self._writer = threading.RLock()  # a thread of the parent may hold the old one

    def close(self) -> None:
        """Close every pooled connection."""
        if self._idle_closer:
            self._idle_closer.stop()
        self.engine.dispose()

    @contextmanager
    def _one_writer(self) -> Iterator[None]:
        if self._writer is None:
            yield
            return
        if not self._writer.acquire(timeout=WRITER_TIMEOUT_SECONDS):
            raise DatabaseUnavailable("another thread has been writing for too long")
        try:
            yield
        finally:
            self._writer.release()

    @contextmanager
    def _reading(self, **options: Any) -> Iterator[Session]:
        with faults_named(), self.engine.connect() as connection:
            reader = connection.execution_options(sqlite_read_only=True, **options)
            with Session(reader, expire_on_commit=False) as session, session.begin():
                yield session


_current: ContextVar[Session | None] = ContextVar("current_transaction", default=None)


def current_transaction() -> Session:
    """Return the session of this thread's innermost transaction. Raises LookupError outside any."""
    session = _current.get()
    if session is None:
        raise LookupError("there is no transaction")
    return session


def after_commit(session: Session, callback: Callable[[], object]) -> None:
    """Call ``callback`` after the session's transaction has committed; messages must not be sent earlier."""
    session.info.setdefault("after_commit", []).append(observers.bind_context(callback))


def taken_from(session: Session) -> list[Callable[[], object]]:
    """Remove and return the callbacks registered by ``after_commit``, for the caller to run after the commit."""
    callbacks: list[Callable[[], object]] = session.info.pop("after_commit", [])
    return callbacks


def acting_in(session: Session, do: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Return ``do`` wrapped so that this session is its current transaction, whatever context calls it."""

    def act(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        token = _current.set(session)
        try:
            return do(*args, **kwargs)
        finally:
            _current.reset(token)

    return act


def pending_writes(session: Session) -> bool:
    """Return whether the session has unflushed changes."""
    return bool(session.new or session.dirty or session.deleted)


def effects(session: Session) -> tuple[int, int]:
    """Return the number of writing statements run on the session's connection, and of its after-commit callbacks."""
    return session.connection().info.get("writes", 0), len(session.info.get("after_commit", ()))


def count_writes(engine: Engine) -> None:
    """Count the engine's writing statements (all but SELECT): see ``effects``."""
    event.listen(engine, "before_cursor_execute", _count_write)


def _count_write(
    connection: Connection, _cursor: object, statement: str, _parameters: object, _context: object, _many: bool
) -> None:
    if not statement.startswith("SELECT"):
        connection.info["writes"] = connection.info.get("writes", 0) + 1


def insert_if_absent(session: Session, table: type[Base]) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT of the session's dialect that supports ``on_conflict``."""
    return insert_in(dialect_of(session), table)


def insert_in(dialect: str, table: type[Base] | Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT of a dialect that supports ``on_conflict``."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def dialect_of(session: Session) -> str:
    """Return the name of the session's dialect."""
    return session.get_bind().dialect.name


def table_of(model: type[Base]) -> Table:
    """Return a model's table, for Core statements on the session's connection.

    Such a statement sees only what the session has flushed, and the session does not see its changes. But it creates no
    objects, which takes several times as long as the database takes to answer.
    """
    return cast(Table, model.__table__)


def as_loaded(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Return an instance as if loaded by a query: later changes count as changes.

    It belongs to no session; added to one it is written as a new row. ``values`` are its attributes by name, which are
    not validated; missing ones are None. It takes a sixth of the time of the model's constructor.
    """
    instance: Model = model.__mapper__.class_manager.new_instance()
    instance_dict(instance).update(values)
    return instance


def _postgresql_engine(url: str, timeouts: Timeouts | None) -> Engine:
    # set the installed driver, whatever SQLAlchemy's default for a URL without one
    driver_url = make_url(url).set(drivername="postgresql+psycopg2")
    arguments: dict[str, Any] = {"connect_timeout": 5, **_KEEPALIVES}
    if "target_session_attrs" not in driver_url.query:
        # after a failover the address may lead to a standby for a while: the driver rejects a read-only session
        arguments["target_session_attrs"] = "read-write"
    if timeouts:
        url_options = driver_url.query.get("options", ())
        options = [url_options] if isinstance(url_options, str) else url_options
        arguments["options"] = " ".join([*options, *_server_options(timeouts)])
    engine = create_engine(
        driver_url,
        pool_size=10,
        pool_use_lifo=True,  # surplus connections stay idle, so that they are closed
        max_overflow=20,
        connect_args=arguments,
        # the saga engine relies on seeing what was committed while it waited for a row lock
        isolation_level="READ COMMITTED",
        hide_parameters=True,
        # many rows per statement, many statements per network message
        executemany_mode="values_plus_batch",
    )
    keep_values_out_of_errors(engine)
    count_writes(engine)
    ping_stale_connections(engine)
    reconnect_after_server_faults(engine)
    return engine


_KEEPALIVES = {"keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 2, "tcp_user_timeout": 15_000}
"""TCP keepalives that detect a vanished server within 15 s; the system's default is two hours."""


def _server_options(timeouts: Timeouts) -> Iterator[str]:
    """Yield the connection options that set a session's timeouts, without an extra statement."""
    values = {
        "lock_timeout": timeouts.lock,
        "statement_timeout": timeouts.statement,
        "idle_in_transaction_session_timeout": timeouts.idle_transaction,
    }
    for name, seconds in values.items():
        yield f"-c {name}={math.ceil(seconds * 1000)}"


def _sqlite_engine(url: str) -> Engine:
    database = make_url(url).database
    if database and database != ":memory:":
        folder = Path(database).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseUnavailable(f"{folder} cannot be made: {error.strerror}") from error
    engine = create_engine(
        url, pool_size=20, max_overflow=20, connect_args={"timeout": WRITER_TIMEOUT_SECONDS}, hide_parameters=True
    )
    prepare_sqlite(engine)
    return engine


def prepare_sqlite(engine: Engine) -> None:
    """Configure a SQLite engine: WAL, foreign keys, explicit BEGIN, and counting of writes."""
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    count_writes(engine)


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # the driver's own implicit BEGIN is deferred: two such readers that both want to write fail with SQLITE_BUSY
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get("sqlite_read_only")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
