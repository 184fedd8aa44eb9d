"""The database server's clock, known to this process without asking for it each time.

Every deadline and lease is written by one machine and judged by another, so they share one clock: the database's. What
a process keeps is the offset of that clock from its own monotonic one: a wall clock that is wrong, or is
corrected while the process runs, changes nothing.
"""

import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

CHECK_SECONDS = 1.0
"""How long a comparison is relied on. What it bounds: a machine that was suspended, whose own clock stood still."""

_SQL = "SELECT clock_timestamp()"


def _own_seconds() -> float:
    """Return this machine's clock that only runs forward; on Linux the one that goes on while it is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class ServerClock:
    """The clock of a PostgreSQL server.

    It is compared when a connection is taken from the pool and the last comparison is older than ``CHECK_SECONDS``, and
    with every new connection, which may lead to another server.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._offset: float | None = None
        """What is to be added to this machine's clock; None before the first comparison."""
        self._checked = float("-inf")
        event.listen(engine, "connect", self._expire)
        event.listen(engine, "checkout", self._check)

    def now(self) -> datetime:
        """Return the server's time; this machine's own as long as the server has never answered."""
        if self._offset is None:
            self._connect()
        if self._offset is None:
            return datetime.now(UTC)
        return datetime.fromtimestamp(_own_seconds() + self._offset, UTC)

    def compare(self, before: float, server: float, after: float) -> None:
        """Learn from an answer: the server's clock said ``server`` between two readings of this machine's.

        What is known already is kept if it agrees with that, so that time does not jitter with each comparison.
        """
        least, most = server - after, server - before
        if self._offset is None or not least <= self._offset <= most:
            self._offset = (least + most) / 2
        self._checked = after

    def _connect(self) -> None:
        try:
            self._engine.connect().close()
        except (DBAPIError, PoolTimeout):
            return  # nothing can be written yet, so no other machine sees a time of ours

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
            return  # the transaction's own first statement meets the same error, where it is handled
        self.compare(before, moment.timestamp(), after)
