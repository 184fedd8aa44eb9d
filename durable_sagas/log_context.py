"""The context of log lines: which saga, step and attempt a thread is working on.

``context`` is for a filter of the application's logging, which adds it to its records.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_current: ContextVar[dict[str, Any] | None] = ContextVar("log_context", default=None)


def context() -> Mapping[str, Any]:
    """Return the fields of the present context: ``task_id``, ``saga_id``, ``order_id``, ``step``, ``attempt`` …."""
    return _current.get() or {}


@contextmanager
def log_context(**values: object) -> Iterator[None]:
    """Add these values to every line that this thread logs in the block, besides those of enclosing blocks."""
    token = _current.set({**(_current.get() or {}), **values})
    try:
        yield
    finally:
        _current.reset(token)


def add_to_log_context(**values: object) -> None:
    """Add values to the innermost ``log_context``; has no effect outside one."""
    innermost = _current.get()
    if innermost is not None:
        innermost.update(values)
