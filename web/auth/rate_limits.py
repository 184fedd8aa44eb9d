"""Rate limits, counted in fixed windows.

The web processes share their counts in Redis; without Redis, or while it cannot be written, each counts for itself.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

from limits.storage import MemoryStorage, RedisStorage, Storage

from app.redis.client import CircuitBreaker, fail_fast_options, redis_errors

T = TypeVar("T")


@dataclass(frozen=True)
class Limit:
    """The maximum number of attempts under one key in a window of ``seconds``."""

    key: str
    attempts: int
    seconds: int = 60


class RateLimiter:
    """Counts attempts before they are made, so that parallel ones cannot exceed a limit."""

    def __init__(self, redis_url: str | None) -> None:
        self._local = _LocalCounts()
        self._shared = RedisStorage(redis_url, **fail_fast_options()) if redis_url else None
        self._circuit = CircuitBreaker("each web process counts attempts for itself")

    def acquire(self, limits: Sequence[Limit]) -> float:
        """Count an attempt towards the limits; return 0, or the seconds to wait if one of them is exceeded.

        Counting stops at the first exceeded limit: attempts refused to one address do not count towards the limit
        of all addresses.
        """
        for limit in limits:
            if self._count(limit, 1) > limit.attempts:
                return max(1.0, self._window_end(limit) - time.time())
        return 0

    def release(self, limits: Sequence[Limit]) -> None:
        """Uncount an acquired attempt that turned out not to be subject to the limits."""
        for limit in limits:
            if self._current(limit) > 0:  # otherwise its window has ended meanwhile
                self._count(limit, -1)

    def _current(self, limit: Limit) -> int:
        return self._call(lambda counts: counts.get(limit.key))

    def _count(self, limit: Limit, amount: int) -> int:
        # what this process counted while Redis was unavailable stays valid when Redis is back
        local_count = self._local.get(limit.key) if self._shared else 0
        return max(local_count, self._call(lambda counts: counts.incr(limit.key, limit.seconds, amount), writes=True))

    def _window_end(self, limit: Limit) -> float:
        return max(self._local.get_expiry(limit.key), self._call(lambda counts: counts.get_expiry(limit.key)))

    def _call(self, operation: Callable[[Storage], T], *, writes: bool = False) -> T:
        if self._shared is None or not self._circuit.allows_calls:
            return operation(self._local)
        try:
            result = operation(self._shared)
        except redis_errors() as error:
            self._circuit.record_failure(error)
            return operation(self._local)
        if writes:  # a successful read does not prove that Redis can be written
            self._circuit.record_success()
        return result


class _LocalCounts(MemoryStorage):
    """The counts of this process."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = Lock()

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Increment and return the count atomically: the library's may include another thread's later increment."""
        with self._lock:
            return int(super().incr(key, expiry, amount))
