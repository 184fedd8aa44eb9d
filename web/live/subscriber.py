"""Subscribe to the change feed in Redis, so that streams poll the database less often.

One thread per web process, started with the first stream, listens for all streams.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from app.redis.change_feed import CHANNEL
from app.redis.client import CircuitBreaker, connect, redis_errors

logger = logging.getLogger(__name__)

READ_TIMEOUT_SECONDS = 0.5
"""The timeout of a read, and so the maximum delay until the thread notices that the process is stopping."""
PING_SECONDS = 5
"""The interval of pings; after two intervals without any message the connection is considered dead."""
MAX_BACK_OFF = 15.0


class StreamSubscription:
    """The subscription of one stream to the changes of one saga; its waits also end when the process stops."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._notified = threading.Event()

    def notify(self) -> None:
        """End the current wait, or the next one."""
        self._notified.set()

    def wait(self, seconds: float, not_before: float) -> bool:
        """Wait up to ``seconds`` for a change, then until ``not_before`` (monotonic); return whether one came."""
        if not self._notified.wait(seconds):
            return False
        self._stopping.wait(max(0.0, not_before - time.monotonic()))
        # cleared before the poll that follows: a change announced during that poll must cause another one
        self._notified.clear()
        return True


class NullSubscription(StreamSubscription):
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
        self._subscriptions: defaultdict[str, set[StreamSubscription]] = defaultdict(set)
        self._thread: threading.Thread | None = None
        self._circuit = CircuitBreaker("live pages look at the database more often")
        self.connected = False
        """Whether the change feed is connected; while it is not, streams must poll more often."""

    @contextmanager
    def subscribe(self, saga_id: str) -> Iterator[StreamSubscription]:
        """Yield a subscription to one saga's changes for the block; the first one starts the thread."""
        if self._redis is None:
            yield NullSubscription(self._stopping)
            return
        subscription = StreamSubscription(self._stopping)
        with self._lock:
            self._subscriptions[saga_id].add(subscription)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="change-subscriber", daemon=True)
                self._thread.start()
        try:
            subscription.notify()  # the saga may have changed between the stream's first poll and the subscription
            yield subscription
        finally:
            with self._lock:
                self._subscriptions[saga_id].discard(subscription)
                if not self._subscriptions[saga_id]:
                    del self._subscriptions[saga_id]

    def _run(self) -> None:
        back_off = 0.5
        while not self._stopping.is_set():
            try:
                self._receive()
            except redis_errors() as error:  # UnicodeError: any Redis client may publish bytes that are not UTF-8
                back_off = 0.5 if self.connected else min(2 * back_off, MAX_BACK_OFF)
                self.connected = False
                self._circuit.record_failure(error)
                self._stopping.wait(back_off)
        self.connected = False
        self._notify()

    def _receive(self) -> None:
        assert self._redis
        with self._redis.pubsub() as listener:  # type: ignore[no-untyped-call]
            listener.subscribe(CHANNEL)
            last_message = last_ping = time.monotonic()
            while not self._stopping.is_set():
                message = listener.get_message(timeout=READ_TIMEOUT_SECONDS)
                now = time.monotonic()
                if message:
                    last_message = now
                    self._handle(message["type"], message["data"])
                elif now - last_message > 2 * PING_SECONDS:
                    raise ConnectionError("no sign of life")
                if now - last_ping > PING_SECONDS:
                    listener.ping()
                    last_ping = now

    def _handle(self, message_type: str, data: str) -> None:
        if message_type == "subscribe":
            self._circuit.record_success()
            self.connected = True
            self._notify()  # announcements before the subscription are lost
        elif message_type == "message":
            self._notify(data.split())

    def _notify(self, saga_ids: Iterable[str] | None = None) -> None:
        """End the waits for these sagas, or all waits."""
        with self._lock:
            for saga_id in self._subscriptions if saga_ids is None else saga_ids:
                for subscription in self._subscriptions.get(saga_id, ()):
                    subscription.notify()
