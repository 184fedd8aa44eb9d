"""Subscribe to the change feed in Redis, so that streams poll the database less often.

One thread per web process, started with the first stream, listens for all streams.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from app.change_feed import CHANNEL
from app.redis_client import CircuitBreaker, connect, redis_errors

logger = logging.getLogger(__name__)

LISTENING_SECONDS = 0.5
"""The timeout of a read, and so the maximum delay until the thread notices that the process is stopping."""
PING_SECONDS = 5
"""The interval of pings; after two intervals without any message the connection is considered dead."""
MAX_BACK_OFF = 15.0


class Ear:
    """The subscription of one stream to the changes of one saga; its waits also end when the process stops."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._told = threading.Event()

    def tell(self) -> None:
        """End the current wait, or the next one."""
        self._told.set()

    def wait(self, seconds: float, not_before: float) -> bool:
        """Wait up to ``seconds`` for a change, then until ``not_before`` (monotonic); return whether one came."""
        if not self._told.wait(seconds):
            return False
        self._stopping.wait(max(0.0, not_before - time.monotonic()))
        # cleared before the poll that follows: a change announced during that poll must cause another one
        self._told.clear()
        return True


class NullSubscription(Ear):
    """A subscription without Redis: it never receives a change."""

    def wait(self, seconds: float, not_before: float) -> bool:  # noqa: ARG002
        """Wait ``seconds``, or until the process is stopping; return False."""
        self._stopping.wait(seconds)
        return False


class ChangeSubscriber:
    """All subscriptions of a process. ``url`` is that of Redis; None if there is none."""

    def __init__(self, url: str | None, stopping: threading.Event) -> None:
        self._redis = connect(url) if url else None
        self._stopping = stopping
        self._lock = threading.Lock()
        self._ears: defaultdict[str, set[Ear]] = defaultdict(set)
        self._thread: threading.Thread | None = None
        self._circuit = CircuitBreaker("live pages look at the database more often")
        self.delivers = False
        """Whether announcements currently arrive; while they do not, streams must poll more often."""

    @contextmanager
    def of(self, saga_id: str) -> Iterator[Ear]:
        """Yield a subscription to one saga's changes for the block; the first one starts the thread."""
        if self._redis is None:
            yield NullSubscription(self._stopping)
            return
        ear = Ear(self._stopping)
        with self._lock:
            self._ears[saga_id].add(ear)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hearing", daemon=True)
                self._thread.start()
        try:
            ear.tell()  # the saga may have changed between the stream's first poll and the subscription
            yield ear
        finally:
            with self._lock:
                self._ears[saga_id].discard(ear)
                if not self._ears[saga_id]:
                    del self._ears[saga_id]

    def _run(self) -> None:
        back_off = 0.5
        while not self._stopping.is_set():
            try:
                self._listen()
            except redis_errors() as error:  # UnicodeError: any Redis client may publish bytes that are not UTF-8
                back_off = 0.5 if self.delivers else min(2 * back_off, MAX_BACK_OFF)
                self.delivers = False
                self._circuit.record_failure(error)
                self._stopping.wait(back_off)
        self.delivers = False
        self._tell_all()

    def _listen(self) -> None:
        assert self._redis
        with self._redis.pubsub() as listener:  # type: ignore[no-untyped-call]
            listener.subscribe(CHANNEL)
            heard = asked = time.monotonic()
            while not self._stopping.is_set():
                message = listener.get_message(timeout=LISTENING_SECONDS)
                now = time.monotonic()
                if message:
                    heard = now
                    self._understand(message["type"], message["data"])
                elif now - heard > 2 * PING_SECONDS:
                    raise ConnectionError("no sign of life")
                if now - asked > PING_SECONDS:
                    listener.ping()
                    asked = now

    def _understand(self, kind: str, data: str) -> None:
        if kind == "subscribe":
            self._circuit.record_success()
            self.delivers = True
            self._tell_all()  # announcements before the subscription are lost
        elif kind == "message":
            with self._lock:
                ears = [ear for saga_id in data.split() for ear in self._ears.get(saga_id, ())]
            for ear in ears:
                ear.tell()

    def _tell_all(self) -> None:
        with self._lock:
            ears = [ear for watching in self._ears.values() for ear in watching]
        for ear in ears:
            ear.tell()
