"""Redis client for optional state shared between processes.

Redis may be unavailable at any time. Then calls fail fast, and a circuit breaker skips them for some seconds.

The client library is imported where it is used: it loads the whole OpenTelemetry SDK if that is installed, which a
process without Redis and tracing does not need.
"""

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis import Redis

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 0.5
"""The timeout of one reply of Redis; a healthy one takes less than a thousandth of it."""
OPEN_SECONDS = 5
"""How long the circuit stays open after a failure."""


def fail_fast_options() -> dict[str, Any]:
    """Return client options with short timeouts and without retries."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return {
        "socket_connect_timeout": TIMEOUT_SECONDS,
        "socket_timeout": TIMEOUT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }


def connect(url: str) -> "Redis":
    """Return a client with these options. It connects on first use."""
    from redis import Redis

    return Redis.from_url(url, decode_responses=True, **fail_fast_options())


def redis_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that a client raises if Redis fails, or returns something that is not text."""
    from redis import RedisError

    return (RedisError, OSError, UnicodeError)


class CircuitBreaker:
    """Circuit breaker for Redis, which logs one line when Redis becomes unavailable or available."""

    def __init__(self, fallback: str) -> None:
        self._fallback = fallback
        """The fallback while Redis is unavailable, for the log."""
        self._lock = threading.Lock()
        self._unavailable = False
        self._open_until = 0.0

    @property
    def allows_calls(self) -> bool:
        """Return whether Redis may be called: whether the circuit is closed."""
        return time.monotonic() >= self._open_until

    def record_failure(self, error: Exception) -> None:
        """Record a failed call, and open the circuit."""
        with self._lock:
            was_unavailable, self._unavailable = self._unavailable, True
            self._open_until = time.monotonic() + OPEN_SECONDS
        if not was_unavailable:
            logger.warning(f"Redis does not answer: {self._fallback}", extra={"reason": error})

    def record_success(self) -> None:
        """Record a successful call."""
        with self._lock:
            was_unavailable, self._unavailable = self._unavailable, False
        if was_unavailable:
            logger.info(f"Redis answers again; until now {self._fallback}")
