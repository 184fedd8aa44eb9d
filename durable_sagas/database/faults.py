"""Distinguish faults of the database from errors of a statement, by SQLSTATE or the driver's exception class."""

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

_SQLSTATES = (
    "08",  # the connection broke
    "28",  # the server rejects our credentials
    "40",  # rolled back: serialization failure, deadlock
    "53",  # out of disk, memory, connections
    "57",  # operator intervention: the statement, the backend or the server was stopped
    "58",  # a system error of the server, such as I/O
    "XX",  # an internal error: damaged data, a bug
    "25006",  # a read-only server: a standby after a failover
    "25P03",  # a transaction that was idle for too long
    "55P03",  # a lock timeout
)
"""Classes of SQLSTATEs, and single codes, that are faults of the database.

The driver's classes are no substitute: it raises OperationalError for ``54000``, a value too large for an index, and
InternalError for ``25006`` and ``XX``, which are no statement's fault.
"""

_OF_THE_SERVER = ("08", "25006", "57P", "58", "XX")
"""SQLSTATEs of faults that last as long as a connection leads to the same server, or to its present state."""

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
"""SQLite's primary result codes that are faults.

The exception class does not distinguish them: the driver raises OperationalError for most, but also for a missing
table.
"""


def sqlstate_of(error: object) -> str | None:
    """Return the SQLSTATE of a driver's error: psycopg2 and psycopg 3 name it differently."""
    return getattr(error, "pgcode", None) or getattr(error, "sqlstate", None)


def is_fault(error: BaseException) -> bool:
    """Return whether an error is the database's fault, so that the same request may be retried."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    sqlstate, sqlite_code = sqlstate_of(error.orig), getattr(error.orig, "sqlite_errorcode", None)
    if sqlstate:
        return bool(sqlstate.startswith(_SQLSTATES))
    if sqlite_code is not None:
        return sqlite_code & 0xFF in _SQLITE_CODES  # the higher bytes only add detail
    # no code: the server did not answer. psycopg2 then also raises a bare DatabaseError
    return isinstance(error, OperationalError | InterfaceError) or type(error) is DatabaseError


def reconnect_after_server_faults(engine: Engine) -> None:
    """Drop the engine's connections after a fault of the server that they lead to.

    After a failover they may lead to a read-only standby, which answers every ping and accepts no writes.
    """
    event.listen(engine, "handle_error", _drop_connections)


def _drop_connections(context: ExceptionContext) -> None:
    sqlstate = sqlstate_of(context.original_exception)
    if sqlstate and sqlstate.startswith(_OF_THE_SERVER):
        context.is_disconnect = True  # with this connection the pool invalidates all older ones
