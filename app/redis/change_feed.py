"""Publish the ids of changed sagas to web processes through Redis, after the commit and without blocking it.

An announcement is only a hint to read the database. It may be lost: pages also poll.
"""

import atexit
import logging
import threading

from app.redis.client import TIMEOUT_SECONDS, CircuitBreaker, connect, redis_errors

logger = logging.getLogger(__name__)

CHANNEL = "cloudmart:changed"
"""The Redis channel; a message is a list of saga ids, separated by spaces."""


class ChangePublisher:
    """Publishes from a background thread: callers only enqueue a saga's id, whatever state Redis is in.

    Ids that arrive during a publication are published together, each once.
    """

    def __init__(self, url: str) -> None:
        self._redis = connect(url)
        self._circuit = CircuitBreaker("pages look for changes themselves")
        self._pending: set[str] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def announce(self, saga_id: str) -> None:
        """Announce that a saga has changed. Returns at once and never fails."""
        if not self._circuit.allows_calls:
            return
        with self._changed:
            self._pending.add(saga_id)
            # a forked child inherits the object but not the thread
            if self._thread is None or not self._thread.is_alive():
                self._start()
            self._changed.notify()

    def close(self) -> None:
        """Publish what is pending, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread and self._thread.is_alive():
            self._thread.join(2 * TIMEOUT_SECONDS)
        atexit.unregister(self.close)
        self._redis.close()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="change-publisher", daemon=True)
        self._thread.start()
        # a command's process ends right after its commit: flush at exit
        atexit.register(self.close)

    def _run(self) -> None:
        while sagas := self._next():
            try:
                self._redis.publish(CHANNEL, " ".join(sagas))
            except redis_errors() as error:
                self._circuit.record_failure(error)
            except ValueError:
                if not self._closed:
                    raise
                return  # the connection was closed while it waited for a reply
            else:
                self._circuit.record_success()

    def _next(self) -> set[str]:
        """Wait for changed sagas; return an empty set once closed and drained."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closed)
            sagas, self._pending = self._pending, set()
            return sagas
