"""Which connections of a pool are asked whether they still work before they are used again."""

import select
import time
from typing import Any, cast

from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

PING_AFTER_IDLE_SECONDS = 1.0
"""A connection that has not been used for so long is asked whether it still works.

One that the server closed is found out at once: only a network that broke without a word needs a question.
"""

_RETURNED_AT = "returned_at"


def ping_what_may_be_gone(engine: Engine) -> None:
    """Have a connection asked whether it still works, and replaced if not, when there is reason to doubt it.

    A pool outlives a restart of the server, and the first statement after it must not fail. The pool's own ``pre_ping``
    asks before every transaction, which takes as long as one of its statements. But a server says nothing unasked
    between transactions, unless it is to say farewell: whether there is something to read costs no round trip.
    """

    def note(_connection: object, record: ConnectionPoolEntry) -> None:
        record.info[_RETURNED_AT] = time.monotonic()

    def ask(connection: DBAPIConnection | None, record: ConnectionPoolEntry, _proxy: object) -> None:
        returned_at = record.info.get(_RETURNED_AT)
        if returned_at is None:
            return  # it was made for who asks for it
        try:
            if time.monotonic() - returned_at >= PING_AFTER_IDLE_SECONDS or _readable(connection):
                engine.dialect.do_ping(cast(DBAPIConnection, connection))
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error  # the pool makes another

    event.listen(engine, "checkin", note)
    event.listen(engine, "checkout", ask)


def _readable(connection: Any) -> bool:
    """Tell whether a connection's socket has something to read, its end included."""
    waiting = select.poll()  # select() itself knows no descriptors above 1023
    waiting.register(connection.fileno(), select.POLLIN)
    return bool(waiting.poll(0))
