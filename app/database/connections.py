"""Pooled connections to PostgreSQL: ping one that may be stale before use, and close those that stay idle."""

import select
import threading
import time
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

PING_AFTER_IDLE_SECONDS = 1.0
"""A connection idle for longer than this is pinged before use.

One that the server closed is detected without a ping, which is needed only for a silently broken network.
"""

IDLE_SECONDS = 10.0
"""A pooled connection is closed after this many idle seconds: it counts towards the server's connection limit."""

_RETURNED_AT = "returned_at"


class PoolMaintenance:
    """Pings an engine's pooled connections at checkout if they may be stale, and closes the idle ones.

    A pool outlives a restart of the server, and the first statement after it must not fail. The pool's own ``pre_ping``
    pings before every transaction, which takes as long as one statement. But between transactions a server sends
    nothing unless it closes the connection: a check for readable data costs no round trip.

    A thread looks for idle connections from the first use on, and ends once the pool holds none.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.reset()
        event.listen(engine, "checkin", self._record_return)
        event.listen(engine, "checkout", self._ping_if_stale)

    def reset(self) -> None:
        """Reset for a child process right after a fork, which lacks the thread and may have inherited a held lock."""
        self._lock = threading.Lock()
        self._returned_at: dict[ConnectionPoolEntry, float] = {}
        self._running = False
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the thread, if there is one."""
        self._stopped.set()

    def _record_return(self, _connection: object, entry: ConnectionPoolEntry) -> None:
        with self._lock:
            entry.info[_RETURNED_AT] = self._returned_at[entry] = time.monotonic()
            if self._running:
                return
            self._running = True
            self._stopped = threading.Event()
        threading.Thread(target=self._run, args=[self._stopped], name="idle-connections", daemon=True).start()

    def _ping_if_stale(self, connection: Any, entry: ConnectionPoolEntry, _proxy: object) -> None:
        with self._lock:  # from here on the thread does not close it; if it just has, the ping fails
            self._returned_at.pop(entry, None)
        returned_at = entry.info.get(_RETURNED_AT)
        if returned_at is None:
            return  # a new connection
        try:
            if time.monotonic() - returned_at >= PING_AFTER_IDLE_SECONDS or _readable(connection):
                self._engine.dialect.do_ping(connection)
        except self._engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error  # the pool opens another

    def _run(self, stopped: threading.Event) -> None:
        running = True
        while running:
            is_stopped = stopped.wait(IDLE_SECONDS / 4)
            with self._lock:
                if not is_stopped:
                    self._close_idle()
                running = self._running = bool(self._returned_at) and not is_stopped

    def _close_idle(self) -> None:
        unused_since = time.monotonic() - IDLE_SECONDS
        for entry, returned_at in list(self._returned_at.items()):
            if returned_at <= unused_since:
                entry.invalidate()
                del self._returned_at[entry]


def _readable(connection: Any) -> bool:
    """Return whether a connection's socket has data, or its end, to read."""
    poller = select.poll()  # select() does not support descriptors above 1023
    poller.register(connection.fileno(), select.POLLIN)
    return bool(poller.poll(0))
