"""Cache readings of a source that may be slow or not answer."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

Value = TypeVar("Value")


class Probe(Generic[Value]):
    """Reads a source at most every ``max_age`` seconds; no caller waits longer than ``timeout`` seconds.

    Each reading has a background thread, one at a time: a source that never answers blocks only that thread.
    """

    def __init__(self, name: str, read: Callable[[], Value], *, max_age: float = 5, timeout: float = 2) -> None:
        self._name, self._read, self._max_age, self._timeout = name, read, max_age, timeout
        self._lock = threading.Lock()
        self._value: Value | None = None
        self._read_at: float | None = None
        self._running: threading.Event | None = None

    def get(self) -> Value | None:
        """Return the last value if it is fresh, else a new one; None if reading fails or takes too long."""
        with self._lock:
            if self._read_at is not None and time.monotonic() - self._read_at < self._max_age:
                return self._value
            if self._running is None:
                self._running = threading.Event()
                threading.Thread(target=self._refresh, args=(self._running,), name=self._name, daemon=True).start()
            running = self._running
        if not running.wait(self._timeout):
            logger.warning(f"no metrics of the {self._name}: it has not answered in {self._timeout} s")
            return None
        with self._lock:
            return self._value

    def _refresh(self, done: threading.Event) -> None:
        value = None
        try:
            value = self._read()
        except Exception as error:
            logger.warning(f"no metrics of the {self._name}: it does not answer", extra={"reason": error})
        finally:
            with self._lock:
                self._value, self._read_at, self._running = value, time.monotonic(), None
            done.set()
