"""Asking something that may be slow, or silent, on behalf of people who ask often and must be answered soon."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

Value = TypeVar("Value")


class Source(Generic[Value]):
    """Reads something at most every ``keep`` seconds, and lets nobody wait for it longer than ``patience`` seconds.

    It is read in a thread of its own, one at a time: what never answers holds that thread and nobody else.
    """

    def __init__(self, name: str, read: Callable[[], Value], *, keep: float = 5, patience: float = 2) -> None:
        self._name, self._read, self._keep, self._patience = name, read, keep, patience
        self._lock = threading.Lock()
        self._value: Value | None = None
        self._read_at: float | None = None
        self._running: threading.Event | None = None

    def get(self) -> Value | None:
        """Return what was read last, if that is fresh, or what is read now; None if that fails or takes too long."""
        with self._lock:
            if self._fresh():
                return self._value
            if self._running is None:
                self._running = threading.Event()
                threading.Thread(target=self._refresh, args=(self._running,), name=self._name, daemon=True).start()
            running = self._running
        if not running.wait(self._patience):
            logger.warning(f"no metrics of the {self._name}: it has not answered in {self._patience} s")
            return None
        with self._lock:
            return self._value

    def _fresh(self) -> bool:
        return self._read_at is not None and time.monotonic() - self._read_at < self._keep

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
