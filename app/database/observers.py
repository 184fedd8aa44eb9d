"""The observer of this process's engines, such as tracing.

It registers itself here, so that this package imports nothing that observes it.
"""

from typing import Protocol
from weakref import WeakSet

from sqlalchemy import Engine


class Observer(Protocol):
    """Observes engines."""

    def watch(self, engine: Engine) -> None:
        """Observe the statements of an engine."""


_engines: WeakSet[Engine] = WeakSet()
_observer: Observer | None = None


def connect(observer: Observer) -> None:
    """Register the observer, in place of an earlier one; it watches the engines that there are, and those to come."""
    global _observer
    _observer = observer
    for engine in _engines:
        observer.watch(engine)


def disconnect() -> None:
    """Unregister the observer, if there is one; it stops watching engines by itself."""
    global _observer
    _observer = None


def engine_created(engine: Engine) -> None:
    """Register an engine to be watched, now or once there is an observer."""
    _engines.add(engine)
    if _observer:
        _observer.watch(engine)
