"""What is a fault of the database and not of the statement that met it: by the server's code, or the driver's class."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.errors import DatabaseUnavailable

_SQLSTATES = (
    "08",  # the connection broke
    "28",  # the server does not let us in
    "40",  # rolled back: serialization failure, deadlock
    "53",  # out of disk, memory, connections
    "57",  # somebody stopped it: the statement, the backend, the server
    "58",  # the server's own input and output
    "XX",  # an internal error: damaged data, a bug
    "25006",  # a read-only server: a standby after a failover
    "25P03",  # a transaction that was idle for too long
    "55P03",  # a lock that was not to be had in time
)
"""Classes of PostgreSQL's codes, and single ones. The driver's classes will not do: it calls ``54000``, a value too
large for an index, an OperationalError, and ``25006`` and ``XX``, no fault of any statement, an InternalError."""

_OF_THE_SERVER = ("08", "25006", "57P", "58", "XX")
"""Codes of faults that stay for as long as a connection leads to the same server, or to its present state."""

_SQLITE_CODES = {
    5: "busy",
    6: "locked",
    7: "out of memory",
    8: "read-only",
    9: "interrupted",
    10: "disk I/O error",
    11: "the file is damaged",
    13: "the disk is full",
    14: "the file cannot be opened",
    15: "locking protocol",
    26: "not a database",
}
"""SQLite's primary result codes. Its driver calls most of them, and a missing table, an OperationalError."""


def is_fault(error: BaseException) -> bool:
    """Tell whether the database failed to do what it was asked, so that the same may be asked again."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    sqlstate, sqlite_code = getattr(error.orig, "pgcode", None), getattr(error.orig, "sqlite_errorcode", None)
    if sqlstate:
        return bool(sqlstate.startswith(_SQLSTATES))
    if sqlite_code is not None:
        return sqlite_code & 0xFF in _SQLITE_CODES  # what is above that byte only says more
    # no code: the server did not even answer. psycopg2 then raises the bare DatabaseError, too
    return isinstance(error, OperationalError | InterfaceError) or type(error) is DatabaseError


def reconnect_where_only_another_server_can_help(engine: Engine) -> None:
    """Drop the engine's connections after a fault of the server they lead to.

    After a failover they may lead to what is now a read-only standby, which answers every ping and takes no writes.
    """
    event.listen(engine, "handle_error", _drop_connections)


def _drop_connections(context: ExceptionContext) -> None:
    sqlstate = getattr(context.original_exception, "pgcode", None)
    if sqlstate and sqlstate.startswith(_OF_THE_SERVER):
        context.is_disconnect = True  # with this connection the pool gives up all that were made before


@contextmanager
def faults_named() -> Iterator[None]:
    """Raise DatabaseUnavailable for every error in the block that is the database's fault; others pass as they are."""
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        if not is_fault(error):
            raise
        original = getattr(error, "orig", None)
        raise DatabaseUnavailable(str(original or error).strip(), getattr(original, "pgcode", None)) from error
