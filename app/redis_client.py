"""What the processes share in Redis, if there is one: never anything that could not be done without.

Redis may be away at any time. Then nobody waits for it, and nobody asks again for some seconds.

Its client is imported where it is used: it loads the whole of OpenTelemetry's SDK if that is installed, which a process
that has no Redis and no traces is to be spared.
"""

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis import Redis

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 0.5
"""How long one answer of Redis is waited for: a healthy one takes less than a thousandth of that."""
OPEN_SECONDS = 5
"""For how long Redis is left alone after it has not answered."""


def fail_fast_options() -> dict[str, Any]:
    """Return the options of a client that gives up soon and tries nothing twice."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return {
        "socket_connect_timeout": PATIENCE_SECONDS,
        "socket_timeout": PATIENCE_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }


def connect(url: str) -> "Redis":
    """Return an impatient client. Nothing connects before it is used."""
    from redis import Redis

    return Redis.from_url(url, decode_responses=True, **fail_fast_options())


def faults() -> tuple[type[Exception], ...]:
    """Return what a client raises when Redis does not do what it is asked, or says what is no text."""
    from redis import RedisError

    return (RedisError, OSError, UnicodeError)


class CircuitBreaker:
    """Whether Redis is worth asking, and the one line of the log when it goes away or comes back."""

    def __init__(self, without: str) -> None:
        self._without = without
        """What is done for as long as it is away, for the log."""
        self._lock = threading.Lock()
        self._away = False
        self._until = 0.0

    @property
    def closed(self) -> bool:
        """Tell whether it is worth asking."""
        return time.monotonic() >= self._until

    def failed(self, error: Exception) -> None:
        """Note that it did not do what it was asked."""
        with self._lock:
            known, self._away = self._away, True
            self._until = time.monotonic() + OPEN_SECONDS
        if not known:
            logger.warning(f"Redis does not answer: {self._without}", extra={"reason": error})

    def answered(self) -> None:
        """Note that it did."""
        with self._lock:
            was_away, self._away = self._away, False
        if was_away:
            logger.info(f"Redis answers again; until now {self._without}")
