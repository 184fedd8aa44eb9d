"""Logs: one line per thing that happened, an action with its context."""

import logging
import sys
from typing import Any

CONTEXT = ("saga_id", "order_id", "step", "operation", "attempt", "event", "task_id", "reason")


class ContextFormatter(logging.Formatter):
    """Write a record as one line: time, level, message, then the context it carries as ``name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = super().format(record)
        context = " ".join(f"{name}={getattr(record, name)}" for name in CONTEXT if hasattr(record, name))
        return f"{line}  {context}" if context else line


def configure_logging(level: str, stream: Any = None) -> None:
    """Send every log record of this level and above to standard error (or ``stream``), once."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(ContextFormatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Celery tells of every task it received and finished; the engine's own lines say what that meant
    for chatty in ("celery.worker.strategy", "celery.app.trace", "alembic", "waitress"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))
