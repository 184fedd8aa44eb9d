"""Where attempts are counted: together in Redis, and each process for itself while that cannot be asked.

Flask-Limiter's own way out of an absent Redis does not cover one that can be read but not written (a replica, a full
disk, no memory left): counting then fails after the request, as a 500.
"""

from collections.abc import Callable
from typing import TypeVar

from limits.storage import MemoryStorage, RedisStorage, Storage

from app.shared_redis import Circuit, faults, impatience

T = TypeVar("T")

SCHEME = "shared"


class SharedCounts(Storage):
    """Counts for Flask-Limiter; its address is that of the Redis with ``shared+`` before it."""

    STORAGE_SCHEME = [f"{SCHEME}+redis", f"{SCHEME}+rediss"]  # noqa: RUF012  (limits reads a plain list here)

    def __init__(self, uri: str, **_: float | str | bool) -> None:
        super().__init__(uri)
        self._together = RedisStorage(uri.removeprefix(f"{SCHEME}+"), **impatience())
        self._alone = MemoryStorage()
        self._circuit = Circuit("each web process counts attempts for itself")

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """Nothing of Redis is raised."""
        return faults()

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count."""
        return self._ask(lambda counts: counts.incr(key, expiry, amount), written=True)

    def get(self, key: str) -> int:
        """Return a count: the higher one, for what could only be counted here is no less true."""
        return max(self._alone.get(key), self._ask(lambda counts: counts.get(key)))

    def get_expiry(self, key: str) -> float:
        """Return when a count ends, in seconds since 1970."""
        return max(self._alone.get_expiry(key), self._ask(lambda counts: counts.get_expiry(key)))

    def check(self) -> bool:
        """Tell that one can count: somehow one always can."""
        return True

    def reset(self) -> int | None:
        """Forget every count."""
        return self._ask(lambda counts: counts.reset())

    def clear(self, key: str) -> None:
        """Forget a count."""
        self._ask(lambda counts: counts.clear(key))

    def _ask(self, question: Callable[[Storage], T], *, written: bool = False) -> T:
        if not self._circuit.closed:
            return question(self._alone)
        try:
            answer = question(self._together)
        except faults() as error:
            self._circuit.failed(error)
            return question(self._alone)
        if written:  # that it can be read does not say that it can count
            self._circuit.answered()
        return answer
