"""Close idle connections: they count towards PostgreSQL's connection limit."""

import threading
import time

from sqlalchemy import Engine, event
from sqlalchemy.pool import ConnectionPoolEntry

IDLE_SECONDS = 10.0
"""A pooled connection is closed after this many idle seconds."""


class IdleCloser:
    """Closes an engine's pooled connections that have been idle for ``IDLE_SECONDS``.

    A thread checks them from the first use on, and ends once the pool holds none.
    """

    def __init__(self, engine: Engine) -> None:
        self.reset()
        event.listen(engine, "checkin", self._add)
        # before the ping: the ping detects a connection closed before this, and after this none is closed
        event.listen(engine, "checkout", self._remove, insert=True)

    def reset(self) -> None:
        """Reset for a child process right after a fork, which lacks the thread and may have inherited a held lock."""
        self._lock = threading.Lock()
        self._returned_at: dict[ConnectionPoolEntry, float] = {}
        self._running = False
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the thread, if there is one."""
        self._stopped.set()

    def _add(self, _connection: object, entry: ConnectionPoolEntry) -> None:
        with self._lock:
            self._returned_at[entry] = time.monotonic()
            if self._running:
                return
            self._running = True
            self._stopped = threading.Event()
        threading.Thread(target=self._run, args=[self._stopped], name="idle-connections", daemon=True).start()

    def _remove(self, _connection: object, entry: ConnectionPoolEntry, _proxy: object) -> None:
        with self._lock:
            self._returned_at.pop(entry, None)

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
                # one that is checked out at this moment is pinged, and replaced, before use: see __init__
                entry.invalidate()
                del self._returned_at[entry]
