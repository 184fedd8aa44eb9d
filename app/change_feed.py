"""Says which saga has changed, to whichever web process shows it: by Redis, after the commit, and never in its way.

What is announced is only a hint to look at the database. It may be lost: pages look now and then without any.
"""

import atexit
import logging
import threading

from app.redis_client import PATIENCE_SECONDS, CircuitBreaker, connect, faults

logger = logging.getLogger(__name__)

CHANNEL = "cloudmart:changed"
"""A message on it is the ids of sagas, with spaces between them."""


class Announcer:
    """Announces from a thread of its own: a step leaves a saga's id here and goes on, whatever Redis does.

    What changes while something is being said is said together, each saga once.
    """

    def __init__(self, url: str) -> None:
        self._redis = connect(url)
        self._circuit = CircuitBreaker("pages look for changes themselves")
        self._waiting: set[str] = set()
        self._news = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def announce(self, saga_id: str) -> None:
        """Have it said that a saga has changed. Returns at once and never fails."""
        if not self._circuit.closed:
            return
        with self._news:
            self._waiting.add(saga_id)
            # a forked child inherits the object but not the thread
            if self._thread is None or not self._thread.is_alive():
                self._start()
            self._news.notify()

    def close(self) -> None:
        """Say what is still to be said, and end the thread."""
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
        # a command's last words: its process ends right after its commit
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
                return  # what it waited for an answer on was closed under it
            else:
                self._circuit.answered()

    def _next(self) -> set[str]:
        """Wait for sagas that have changed; none at all when it was closed."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._closed)
            sagas, self._waiting = self._waiting, set()
            return sagas
