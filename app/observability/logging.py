"""Logs: one line per thing that happened, an action with its context, for people or for machines."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

from pythonjsonlogger.json import JsonFormatter

from app.observability import tracing
from app.settings import LogFormat

CONTEXT = (
    "saga_id", "order_id", "saga_type", "pattern", "step", "operation", "attempt", "task_id", "trace_id",
    "current_step", "event", "seconds", "reason",
)  # fmt: skip
"""What a line may carry besides its message, in this order. Ids and the engine's own words: no personal data."""

_current: ContextVar[dict[str, Any] | None] = ContextVar("log_context", default=None)


@contextmanager
def log_context(**values: object) -> Iterator[None]:
    """Have every line that this thread logs in the block carry these values, besides those of blocks around it."""
    token = _current.set({**(_current.get() or {}), **values})
    try:
        yield
    finally:
        _current.reset(token)


def add_to_log_context(**values: object) -> None:
    """Add to what the lines of the innermost ``log_context`` carry what is known only now; nothing outside one."""
    context = _current.get()
    if context is not None:
        context.update(values)


def configure_logging(level: str, form: LogFormat = LogFormat.TEXT, stream: TextIO | None = None) -> None:
    """Send every log record of this level and above to standard output (or ``stream``), in one form, once."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.addFilter(_add_context)
    handler.setFormatter(JsonLinesFormatter() if form is LogFormat.JSON else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Celery tells of every task it received and finished; the engine's own lines say what that meant
    for chatty in ("celery.worker.strategy", "celery.app.trace", "alembic", "waitress"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))


_OFTEN_SAID = ("saga_id", "saga_type", "step")
"""What messages themselves often say: people need not read it twice in a line."""


class TextFormatter(logging.Formatter):
    """Write a record for people: time, level, message, then its context as ``name=value``, all in one line.

    A traceback follows in lines of its own.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (the base class's name)
        """Return the line."""
        line = super().formatMessage(record)
        said = {name for name in _OFTEN_SAID if str(getattr(record, name, "")) in record.message}
        carried = ((name, getattr(record, name, None)) for name in CONTEXT if name not in said)
        context = " ".join(f"{name}={value}" for name, value in carried if value is not None)
        return f"{line}  {context}" if context else line


class JsonLinesFormatter(JsonFormatter):
    """Write a record for machines: one JSON object, a traceback in it."""

    def __init__(self) -> None:
        super().__init__("{levelname}{name}{message}", style="{", timestamp="time", json_ensure_ascii=False)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Return what the line says: nothing that libraries hang onto their records, be it large or personal."""
        said = {written: log_data.get(name) for name, written in _JSON_NAMES.items()}
        return {name: value for name, value in said.items() if value is not None}


_JSON_NAMES = {
    "time": "time",
    "levelname": "level",
    "name": "logger",
    "message": "message",
    **{name: name for name in CONTEXT},
    "exc_info": "traceback",
}


def _add_context(record: logging.LogRecord) -> bool:
    for name, value in {"trace_id": tracing.current_trace_id(), **(_current.get() or {})}.items():
        if not hasattr(record, name):
            setattr(record, name, value)
    return True
