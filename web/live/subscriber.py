"""Which sagas have changed, as the processes that changed them announce by Redis: so that streams need not look often.

One thread of each web process listens, from the first stream on, for all of them.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from app.change_feed import CHANNEL
from app.redis_client import CircuitBreaker, connect, faults

logger = logging.getLogger(__name__)

LISTENING_SECONDS = 0.5
"""How soon the thread notices that its process is to end."""
PING_SECONDS = 5
"""How often it asks for a sign of life; after two without any the connection is taken for dead."""
MAX_BACK_OFF = 15.0


class Ear:
    """One stream's: it learns that its saga has been announced, and that the process is to end."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._told = threading.Event()

    def tell(self) -> None:
        """End the wait, or the next one if nobody waits."""
        self._told.set()

    def wait(self, seconds: float, not_before: float) -> bool:
        """Wait until told, at most so long, and then until ``not_before`` (monotonic); returns whether it was told."""
        if not self._told.wait(seconds):
            return False
        self._stopping.wait(max(0.0, not_before - time.monotonic()))
        # before the look that follows: what is announced during that look is a reason for another
        self._told.clear()
        return True


class NullSubscription(Ear):
    """An ear without Redis: it is never told anything."""

    def wait(self, seconds: float, not_before: float) -> bool:  # noqa: ARG002
        """Wait so long, or until the process is to end."""
        self._stopping.wait(seconds)
        return False


class ChangeSubscriber:
    """All ears of a process. ``url`` is of the Redis; None for none."""

    def __init__(self, url: str | None, stopping: threading.Event) -> None:
        self._redis = connect(url) if url else None
        self._stopping = stopping
        self._lock = threading.Lock()
        self._ears: defaultdict[str, set[Ear]] = defaultdict(set)
        self._thread: threading.Thread | None = None
        self._circuit = CircuitBreaker("live pages look at the database more often")
        self.delivers = False
        """Whether announcements arrive at present: where they do not, ears are told nothing."""

    @contextmanager
    def of(self, saga_id: str) -> Iterator[Ear]:
        """Give an ear for one saga's announcements while the block runs; the first has the thread started."""
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
            ear.tell()  # it may have changed since whoever listens now has looked
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
            except faults() as error:  # the last: anybody may say what is no text
                back_off = 0.5 if self.delivers else min(2 * back_off, MAX_BACK_OFF)
                self.delivers = False
                self._circuit.failed(error)
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
            self._circuit.answered()
            self.delivers = True
            self._tell_all()  # nobody knows what was announced before
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
