"""The database: one engine per process, explicit transactions, PostgreSQL and SQLite from the same models."""

import math
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import Dialect, Engine, MetaData, Numeric, Table, TypeDecorator, create_engine, event, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

import durable_sagas.database
from app.database import observers
from app.database.idle import IdleCloser
from app.database.pool import ping_stale_connections
from app.database.redaction import keep_values_out_of_errors
from durable_sagas import Sagas
from durable_sagas.database import (
    JSON_TYPE,
    NAMING_CONVENTION,
    UtcDateTime,
    UuidText,
    acting_in,
    after_commit,
    as_loaded,
    current_transaction,
    dialect_of,
    insert_if_absent,
    insert_in,
    table_of,
    take_callbacks,
)
from durable_sagas.database.faults import (
    database_faults,
    reconnect_after_server_faults,
)
from durable_sagas.database.session import WRITER_TIMEOUT_SECONDS, Model
from durable_sagas.errors import DatabaseUnavailable

__all__ = [
    "METADATA",
    "Base",
    "Database",
    "Model",
    "Money",
    "Timeouts",
    "UtcDateTime",
    "UuidText",
    "acting_in",
    "after_commit",
    "all_tables",
    "as_loaded",
    "current_transaction",
    "dialect_of",
    "insert_if_absent",
    "insert_in",
    "prepare_sqlite",
    "table_of",
    "take_callbacks",
]

CENT = Decimal("0.01")


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

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy reads a plain dict here)
        datetime: UtcDateTime,
        Decimal: Money,
        dict[str, Any]: JSON_TYPE,
        list[Any]: JSON_TYPE,
    }


METADATA = (Base.metadata, Sagas.metadata)
"""The tables of the shop: those of its services, and the engine's."""


def all_tables() -> dict[str, Table]:
    """Return all tables by name, in an order in which rows can be inserted."""
    return {table.name: table for metadata in METADATA for table in metadata.sorted_tables}


@dataclass(frozen=True)
class Timeouts:
    """PostgreSQL's timeouts for a connection, in seconds; each is reported as DatabaseUnavailable.

    A process frozen in a transaction keeps its row locks until ``idle_transaction`` has passed. A transaction that
    needs one of them fails after ``lock``, so that its thread can do something else meanwhile.
    """

    lock: float
    statement: float
    idle_transaction: float


class Database(durable_sagas.database.Database):
    """One process's access to the database. The first transaction opens the first connection.

    Every transaction raises DatabaseUnavailable if the database, and not the statement, is at fault. Without
    ``timeouts`` the server's defaults apply: a migration may take as long as it needs.
    """

    _idle_closer: IdleCloser | None = None

    def __init__(self, url: str, timeouts: Timeouts | None = None) -> None:
        self.url = url
        if url.startswith("sqlite"):
            self.engine = _sqlite_engine(url)
        else:
            self.engine = _postgresql_engine(url, timeouts)
            self._idle_closer = IdleCloser(self.engine)
        super().__init__(sessionmaker(self.engine))
        observers.engine_created(self.engine)

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """Run the block in a read-only transaction in which all statements see the same snapshot.

        On PostgreSQL rows deleted meanwhile cannot be vacuumed before its end. It has no time limit, not even while the
        consumer of its results pauses: it locks no rows.
        """
        # every transaction of SQLite is one
        postgresql = self.engine.dialect.name == "postgresql"
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True} if postgresql else {}
        with database_faults(), self.engine.connect() as connection:
            reader = connection.execution_options(sqlite_read_only=True, **options)
            with Session(reader, expire_on_commit=False) as session, session.begin():
                self._lift_time_limits(session)
                yield session

    def _lift_time_limits(self, session: Session) -> None:
        if dialect_of(session) == "postgresql":
            for timeout in ("statement_timeout", "idle_in_transaction_session_timeout"):
                session.execute(text(f"SET LOCAL {timeout} = 0"))

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
        self._writer = threading.RLock()  # a thread of the parent may hold the old one

    def close(self) -> None:
        """Close every pooled connection."""
        if self._idle_closer:
            self._idle_closer.stop()
        self.engine.dispose()


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
