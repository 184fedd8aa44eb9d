"""The state shared within one process: settings, database, clock."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from app.database import Database
from app.redis.change_feed import ChangePublisher
from app.settings import Settings
from durable_sagas import SagaSignal


@dataclass
class Runtime:
    """The shared objects of a process, each created on first use.

    Tests may replace its clock.
    """

    settings: Settings = field(default_factory=Settings)
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the process receives a signal to end, to interrupt everything that waits."""

    @property
    def now(self) -> Callable[[], datetime]:
        """Returns the time of the database's clock, which all processes share."""
        return self.database.now

    @now.setter
    def now(self, clock: Callable[[], datetime]) -> None:
        self.database.now = clock

    @cached_property
    def database(self) -> Database:
        """The process's database."""
        settings = self.settings
        timeouts = {
            "lock_timeout": settings.database_lock_timeout_seconds,
            "statement_timeout": settings.database_statement_timeout_seconds,
            "idle_in_transaction_session_timeout": settings.database_idle_transaction_seconds,
        }
        return Database(settings.database_url, timeouts)

    @cached_property
    def change_publisher(self) -> ChangePublisher | None:
        """The publisher of changed sagas to web processes; None without a Redis."""
        return ChangePublisher(self.settings.shared_redis) if self.settings.shared_redis else None

    def close(self) -> None:
        """Interrupt waiting threads, flush pending announcements, and close the database if it was opened."""
        self.stopping.set()
        if change_publisher := self.__dict__.get("change_publisher"):
            change_publisher.close()
        if "database" in self.__dict__:
            self.database.close()


_lock = threading.Lock()
_current: Runtime | None = None
_listeners: list[Callable[[], None]] = []


def on_change(listener: Callable[[], None]) -> None:
    """Call ``listener`` whenever another runtime takes the place of this process's."""
    _listeners.append(listener)


def current() -> Runtime:
    """Return this process's runtime; the first call creates it from the environment."""
    global _current
    with _lock:
        if _current is None:
            _current = Runtime()
        return _current


def use(runtime: Runtime) -> Runtime:
    """Set this process's runtime instead of one from the environment; return it."""
    global _current
    with _lock:
        _current = runtime
    for listener in _listeners:
        listener()
    return runtime


def announce_change(signal: SagaSignal) -> None:
    """Announce a saga's change to the web processes, if they share a Redis."""
    if publisher := current().change_publisher:
        publisher.announce(signal.saga_id)
