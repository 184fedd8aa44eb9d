"""Ping a pooled connection only when it may be stale."""

import select
import time
from typing import Any, cast

from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

PING_AFTER_IDLE_SECONDS = 1.0
"""A connection idle for longer than this is pinged before use.

One that the server closed is detected without a ping, which is needed only for a silently broken network.
"""

_RETURNED_AT = "returned_at"


def ping_stale_connections(engine: Engine) -> None:
    """Ping a connection at checkout if it may be stale, and replace it if the ping fails.

    A pool outlives a restart of the server, and the first statement after it must not fail. The pool's own ``pre_ping``
    pings before every transaction, which takes as long as one statement. But between transactions a server sends
    nothing unless it closes the connection: a check for readable data costs no round trip.
    """

    def record_return(_connection: object, record: ConnectionPoolEntry) -> None:
        record.info[_RETURNED_AT] = time.monotonic()

    def ping_if_stale(connection: DBAPIConnection | None, record: ConnectionPoolEntry, _proxy: object) -> None:
        returned_at = record.info.get(_RETURNED_AT)
        if returned_at is None:
            return  # a new connection
        try:
            if time.monotonic() - returned_at >= PING_AFTER_IDLE_SECONDS or _readable(connection):
                engine.dialect.do_ping(cast(DBAPIConnection, connection))
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error  # the pool opens another

    event.listen(engine, "checkin", record_return)
    event.listen(engine, "checkout", ping_if_stale)


def _readable(connection: Any) -> bool:
    """Return whether a connection's socket has data, or its end, to read."""
    poller = select.poll()  # select() does not support descriptors above 1023
    poller.register(connection.fileno(), select.POLLIN)
    return bool(poller.poll(0))
