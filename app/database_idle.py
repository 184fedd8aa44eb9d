"""Connections that nobody uses are closed: PostgreSQL refuses others beyond its limit, whether they are used or not."""

import threading
import time
from typing import cast

from sqlalchemy import Engine, QueuePool, event

IDLE_SECONDS = 10.0
"""How long no connection of a process has been used when all are closed."""


class IdleCloser:
    """Closes an engine's pooled connections once none of them has been used for ``IDLE_SECONDS``.

    A thread waits for that from the first use on, and ends with it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.reset()
        event.listen(engine, "checkin", self._note)

    def reset(self) -> None:
        """Forget the thread: for a child process right after a fork, which has none and may have a locked lock."""
        self._lock = threading.Lock()
        self._used_at = 0.0
        self._waiting = False
        self._closed = threading.Event()

    def stop(self) -> None:
        """End the thread, if there is one."""
        self._closed.set()

    def _note(self, *_: object) -> None:
        with self._lock:
            self._used_at = time.monotonic()
            if self._waiting:
                return
            self._waiting = True
            self._closed = threading.Event()
        threading.Thread(target=self._wait, args=[self._closed], name="idle-connections", daemon=True).start()

    def _wait(self, closed: threading.Event) -> None:
        waiting = True
        while waiting:
            stopped = closed.wait(IDLE_SECONDS / 4)
            with self._lock:
                waiting = self._waiting = not (stopped or self._is_idle())
        self._engine.dispose()

    def _is_idle(self) -> bool:
        pool = cast(QueuePool, self._engine.pool)
        return time.monotonic() - self._used_at >= IDLE_SECONDS and not pool.checkedout()
