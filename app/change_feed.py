"""Publish the ids of changed sagas to web processes through Redis, after the commit and without blocking it.

An announcement is only a hint to read the database. It may be lost: pages also poll.
"""

import atexit
import logging
import threading

from app.redis_client import PATIENCE_SECONDS, CircuitBreaker, connect, faults

logger = logging.getLogger(__name__)

CHANNEL = "cloudmart:changed"
"""The Redis channel; a message is a list of saga ids, separated by spaces."""


class Announcer:
    """Publishes from a background thread: callers only enqueue a saga's id, whatever state Redis is in.

    Ids that arrive during a publication are published together, each once.
    """

    def __init__(self, url: str) -> None:
        self._redis = connect(url)
        self._circuit = CircuitBreaker("pages look for changes themselves")
        self._waiting: set[str] = set()
        self._news = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def announce(self, saga_id: str) -> None:
        """Announce that a saga has changed. Returns at once and never fails."""
        if not self._circuit.closed:
            return
        with self._news:
            self._waiting.add(saga_id)
            # a forked child inherits the object but not the thread
            if self._thread is None or not self._thread.is_alive():
                self._start()
            self._news.notify()

    def close(self) -> None:
        """Publish what is pending, and end the thread."""
        with self._news:
            self._closed = True
            self._news.notify()
        if self._thread and self._thread.is_alive():
            self._thread.join(2 * PATIENCE_SECONDS)
        atexit.unregister(self.close)
        self._redis.close()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
        self._thread.start()
        # a command's process ends right after its commit: flush at exit
        atexit.register(self.close)

    def _run(self) -> None:
        while sagas := self._next():
            try:
                self._redis.publish(CHANNEL, " ".join(sagas))
            except faults() as error:
                self._circuit.failed(error)
            except ValueError:
                if not self._closed:
                    raise
                return  # the connection was closed while it waited for a reply
            else:
                self._circuit.answered()

    def _next(self) -> set[str]:
        """Wait for changed sagas; return an empty set once closed and drained."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._closed)
            sagas, self._waiting = self._waiting, set()
            return sagas
