"""Configure logging: one line per record with its context, as text or JSON."""

import logging
import sys
from typing import Any, TextIO

from pythonjsonlogger.json import JsonFormatter

from app.observability import tracing
from app.settings import LogFormat
from durable_sagas.log_context import context

CONTEXT = (
    "saga_id", "order_id", "saga_type", "pattern", "step", "operation", "attempt", "task_id", "trace_id",
    "current_step", "event", "seconds", "reason",
)  # fmt: skip
"""The context fields of a log line, in this order. Ids and the engine's own terms: no personal data."""


def configure_logging(level: str, log_format: LogFormat = LogFormat.TEXT, stream: TextIO | None = None) -> None:
    """Write every log record of this level and above to standard output (or ``stream``) in one format."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.addFilter(_add_context)
    handler.setFormatter(JsonLinesFormatter() if log_format is LogFormat.JSON else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Celery logs every task received and finished; the engine's own lines cover the outcome
    for name in ("celery.worker.strategy", "celery.app.trace", "alembic", "waitress"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))


_USUALLY_IN_MESSAGE = ("saga_id", "saga_type", "step", "reason")
"""Fields that messages often contain, so that the text format omits them."""


class TextFormatter(logging.Formatter):
    """Format a record as text: time, level, message, then its context as ``name=value``, all in one line.

    A traceback follows in separate lines.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (the base class's name)
        """Return the formatted line."""
        line = super().formatMessage(record)
        repeated = {name for name in _USUALLY_IN_MESSAGE if str(getattr(record, name, "")) in record.message}
        values = ((name, getattr(record, name, None)) for name in CONTEXT if name not in repeated)
        context = " ".join(f"{name}={value}" for name, value in values if value is not None)
        return f"{line}  {context}" if context else line


class JsonLinesFormatter(JsonFormatter):
    """Format a record as one JSON object, including its traceback."""

    def __init__(self) -> None:
        super().__init__("{levelname}{name}{message}", style="{", timestamp="time", json_ensure_ascii=False)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Return the known fields only: libraries attach large or personal data to their records."""
        fields = {field: log_data.get(name) for name, field in _JSON_NAMES.items()}
        return {name: value for name, value in fields.items() if value is not None}


_JSON_NAMES = {
    "time": "time",
    "levelname": "level",
    "name": "logger",
    "message": "message",
    **{name: name for name in CONTEXT},
    "exc_info": "traceback",
}


def _add_context(record: logging.LogRecord) -> bool:
    for name, value in {"trace_id": tracing.current_trace_id(), **context()}.items():
        if not hasattr(record, name):
            setattr(record, name, value)
    return True
