"""The database server's clock, without a query for each reading.

Deadlines and leases are written by one machine and checked by another, so all share one clock: the database's. A
process stores the offset of that clock from its own monotonic clock, so a wrong wall clock, or one corrected at run
time, has no effect.
"""

import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

CHECK_SECONDS = 1.0
"""How long an offset is valid. This bounds the error after a suspension that stopped the machine's own clock."""

_SQL = "SELECT clock_timestamp()"


def _own_seconds() -> float:
    """Return this machine's monotonic clock; on Linux the one that also runs during suspension."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class ServerClock:
    """The clock of a PostgreSQL server.

    It is compared with this machine's when a connection is checked out and the last comparison is older than
    ``CHECK_SECONDS``, and with every new connection, which may lead to another server.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._offset: float | None = None
        """The offset to add to this machine's clock; None before the first comparison."""
        self._checked = float("-inf")
        event.listen(engine, "connect", self._expire)
        event.listen(engine, "checkout", self._check)

    def now(self) -> datetime:
        """Return the server's time, or this machine's until the server has answered once."""
        if self._offset is None:
            self._connect()
        if self._offset is None:
            return datetime.now(UTC)
        return datetime.fromtimestamp(_own_seconds() + self._offset, UTC)

    def compare(self, before: float, server: float, after: float) -> None:
        """Update the offset: the server's clock read ``server`` between two readings of this machine's.

        The known offset is kept if it is consistent with that, so that time does not jitter with each comparison.
        """
        minimum, maximum = server - after, server - before
        if self._offset is None or not minimum <= self._offset <= maximum:
            self._offset = (minimum + maximum) / 2
        self._checked = after

    def _connect(self) -> None:
        try:
            self._engine.connect().close()
        except (DBAPIError, PoolTimeout):
            return  # nothing can be written yet, so no other machine sees this time

    def _expire(self, *_: object) -> None:
        self._checked = float("-inf")

    def _check(self, connection: Any, *_: object) -> None:
        before = _own_seconds()
        if before - self._checked < CHECK_SECONDS:
            return
        try:
            try:
                with connection.cursor() as cursor:
                    cursor.execute(_SQL)
                    [moment] = cursor.fetchone()
                after = _own_seconds()
            finally:
                connection.rollback()
        except self._engine.dialect.loaded_dbapi.Error:
            return  # the transaction's first statement raises the same error, where it is handled
        self.compare(before, moment.timestamp(), after)
