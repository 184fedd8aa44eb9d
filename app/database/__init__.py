"""The database: one engine per process, explicit transactions, PostgreSQL and SQLite from the same models."""

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, MetaData, Numeric, Table, create_engine, event, text
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

import durable_sagas.database
from app.database.connections import PoolMaintenance
from durable_sagas import Sagas
from durable_sagas.database import NAMING_CONVENTION, dialect_of, prepare_sqlite
from durable_sagas.database import UtcDateTime as UtcDateTime
from durable_sagas.database import UuidText as UuidText
from durable_sagas.database import after_commit as after_commit
from durable_sagas.database import current_transaction as current_transaction
from durable_sagas.database.faults import reconnect_after_server_faults
from durable_sagas.database.session import WRITER_TIMEOUT_SECONDS, database_faults
from durable_sagas.errors import DatabaseUnavailable


class Base(DeclarativeBase):
    """The base of all models; constraint names follow one convention, so that migrations can refer to them."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy reads a plain dict here)
        **durable_sagas.database.Base.type_annotation_map,
        Decimal: Numeric(12, 2),
    }


METADATA = (Base.metadata, Sagas.metadata)
"""The tables of the shop: those of its services, and the engine's."""


def all_tables() -> dict[str, Table]:
    """Return all tables by name, in an order in which rows can be inserted."""
    return {table.name: table for metadata in METADATA for table in metadata.sorted_tables}


class Database(durable_sagas.database.Database):
    """One process's access to the database. The first transaction opens the first connection.

    Every transaction raises DatabaseUnavailable if the database, and not the statement, is at fault.

    ``timeouts`` are settings of PostgreSQL by name, in seconds. A process frozen in a transaction keeps its row locks
    until ``idle_in_transaction_session_timeout`` has passed. A transaction that needs one of them fails after
    ``lock_timeout``, so that its thread can do something else meanwhile. Without any the server's defaults apply: a
    migration may take as long as it needs.
    """

    _maintenance: PoolMaintenance | None = None

    def __init__(self, url: str, timeouts: Mapping[str, float] | None = None) -> None:
        self.url = url
        if url.startswith("sqlite"):
            self.engine = _sqlite_engine(url)
        else:
            self.engine = _postgresql_engine(url, timeouts)
            self._maintenance = PoolMaintenance(self.engine)
        super().__init__(sessionmaker(self.engine))

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
                for timeout in ("statement_timeout", "idle_in_transaction_session_timeout") if postgresql else ():
                    session.execute(text(f"SET LOCAL {timeout} = 0"))
                yield session

    def check_writable(self) -> None:
        """Raise DatabaseUnavailable if the database does not accept writes at present."""
        with self.transaction() as session:
            on_postgresql = dialect_of(session) == "postgresql"
            read_only = on_postgresql and session.scalar(text("SHOW transaction_read_only")) == "on"
        if read_only:
            self.close()  # no statement has failed yet, so the pool still has these connections
            raise DatabaseUnavailable("the server is read-only")

    def forget_connections(self) -> None:
        """Drop inherited connections without closing them: for a child process right after a fork."""
        self.engine.dispose(close=False)
        if self._maintenance:
            self._maintenance.reset()
        self._writer = threading.RLock()  # a thread of the parent may hold the old one

    def close(self) -> None:
        """Close every pooled connection."""
        if self._maintenance:
            self._maintenance.stop()
        self.engine.dispose()


def _postgresql_engine(url: str, timeouts: Mapping[str, float] | None) -> Engine:
    # set the installed driver, whatever SQLAlchemy's default for a URL without one
    driver_url = make_url(url).set(drivername="postgresql+psycopg2")
    arguments: dict[str, Any] = {"connect_timeout": 5, **_KEEPALIVES}
    if "target_session_attrs" not in driver_url.query:
        # after a failover the address may lead to a standby for a while: the driver rejects a read-only session
        arguments["target_session_attrs"] = "read-write"
    if timeouts:
        url_options = driver_url.query.get("options", ())
        options = [url_options] if isinstance(url_options, str) else [*url_options]
        options += [f"-c {name}={math.ceil(seconds * 1000)}" for name, seconds in timeouts.items()]
        arguments["options"] = " ".join(options)
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
    event.listen(engine, "handle_error", _remove_values)
    reconnect_after_server_faults(engine)
    return engine


_KEEPALIVES = {"keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 2, "tcp_user_timeout": 15_000}
"""TCP keepalives that detect a vanished server within 15 s; the system's default is two hours."""


_DATA_EXCEPTION = "22"
"""The class of SQLSTATEs for values that do not fit their type: there the first line quotes the value."""


def _remove_values(context: ExceptionContext) -> None:
    """Remove written values, which may be personal data, from an error: it is logged, stored and shown to operators.

    SQLAlchemy leaves out a statement's parameters (``hide_parameters``); but PostgreSQL itself quotes rows and keys in
    the lines after its message (``Failing row contains …``), and the statement as the driver sent it, with the values.
    """
    original = context.original_exception
    sqlstate = getattr(original, "pgcode", None)
    if not sqlstate:
        return  # not the server's answer to a statement: the connection broke
    message = str(original)
    short = message.partition("\n")[0]
    if sqlstate.startswith(_DATA_EXCEPTION):
        short = short.partition(': "')[0]
    original.args = (short,)
    if context.sqlalchemy_exception is not None:
        context.sqlalchemy_exception.args = (str(context.sqlalchemy_exception.args[0]).replace(message, short),)


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
