"""The state shared within one process: settings, database, clock."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from app.change_feed import Announcer
from app.database import Database, Timeouts
from app.settings import Settings


@dataclass
class Runtime:
    """The shared objects of a process, each created on first use.

    ``now`` is the database's clock, which all processes share. Tests may replace it.
    """

    settings: Settings = field(default_factory=Settings)
    now: Callable[[], datetime] = field(init=False)
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the process is asked to end, to interrupt everything that waits."""

    def __post_init__(self) -> None:
        self.now = lambda: self.database.now()

    @cached_property
    def database(self) -> Database:
        """The process's database."""
        settings = self.settings
        timeouts = Timeouts(
            lock=settings.database_lock_timeout_seconds,
            statement=settings.database_statement_timeout_seconds,
            idle_transaction=settings.database_idle_transaction_seconds,
        )
        return Database(settings.database_url, timeouts)

    @cached_property
    def announcer(self) -> Announcer | None:
        """The publisher of changed sagas to web processes; None without a Redis."""
        return Announcer(self.settings.shared_redis) if self.settings.shared_redis else None

    def close(self) -> None:
        """Interrupt waiting threads, flush pending announcements, and close the database if it was opened."""
        self.stopping.set()
        if announcer := self.__dict__.get("announcer"):
            announcer.close()
        if "database" in self.__dict__:
            self.database.close()


_lock = threading.Lock()
_current: Runtime | None = None


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
    return runtime
