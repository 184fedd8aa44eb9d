"""Signals about sagas and their steps, sent once, after the commit.

Logs, metrics and traces are listeners, so that each change is reported in one place and consistently. If the process
dies between the commit and the signal, no listener is called: the saga log in the database is authoritative, and
signals serve observability only.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any

from durable_sagas.database import after_commit, current_transaction
from durable_sagas.definition import Operation
from durable_sagas.models import SagaInstance, SagaStep

logger = logging.getLogger(__name__)


class SignalType(StrEnum):
    """The type of a signal."""

    SAGA_STARTED = "saga started"
    SAGA_TURNED_BACK = "saga turned back"
    SAGA_COMPLETED = "saga completed"
    SAGA_COMPENSATED = "saga compensated"
    SAGA_STUCK = "saga stuck"
    SAGA_RESUMED = "saga resumed"
    SAGA_REDRIVEN = "saga re-driven"
    SAGA_OVERDUE = "saga overdue"
    STEP_COMPLETED = "step completed"
    STEP_SKIPPED = "step skipped"
    STEP_RETRIED = "step to be retried"
    STEP_FAILED = "step failed"


@dataclass(frozen=True)
class SagaSignal:
    """A change of a saga, or of an operation of one of its steps.

    ``seconds`` is the duration of the attempt that ended, or of the whole saga that ended. ``step`` and ``operation``
    are None for a signal about the saga as a whole; ``current_step`` then is its current step, if it has one.
    """

    kind: SignalType
    saga_id: str
    order_id: str
    saga_type: str
    pattern: str
    step: str | None = None
    operation: Operation | None = None
    attempt: int | None = None
    task_id: str | None = None
    seconds: float | None = None
    reason: str | None = None
    current_step: str | None = None


Listener = Callable[[SagaSignal], None]


def log_signal(signal: SagaSignal) -> None:
    """Log a signal as one line, with the message texts of seed 000 where it has them."""
    level, words = _LINES[signal.kind]
    if not logger.isEnabledFor(level):
        return
    fields = vars(signal)
    context = {name: value for name, value in fields.items() if value is not None and name != "kind"}
    if signal.seconds is not None:
        context["seconds"] = round(signal.seconds, 3)
    message = words.format(**fields, what=_what(signal), saga_class=_saga_class(signal.saga_type))
    logger.log(level, message, extra=context)


def _what(signal: SagaSignal) -> str:
    return f"Compensation of {signal.step}" if signal.operation is Operation.COMPENSATION else f"Step {signal.step}"


def _saga_class(saga_type: str) -> str:
    """Return the name that seed 000 logs for a type of saga: ``OrderSaga`` for ``order``."""
    return "".join(word.capitalize() for word in re.split(r"\W|_", saga_type)) + "Saga"


_LINES = {
    SignalType.SAGA_STARTED: (logging.INFO, "Starting saga {saga_id} with {saga_class}"),
    SignalType.SAGA_TURNED_BACK: (logging.INFO, "Starting compensation for saga {saga_id}"),
    SignalType.SAGA_COMPLETED: (logging.INFO, "Saga {saga_id} completed successfully"),
    SignalType.SAGA_COMPENSATED: (logging.INFO, "Saga {saga_id} compensated"),
    SignalType.SAGA_STUCK: (logging.ERROR, "Saga {saga_id} is stuck: {reason}"),
    SignalType.SAGA_RESUMED: (logging.INFO, "Saga {saga_id} resumed by an operator"),
    SignalType.SAGA_REDRIVEN: (logging.INFO, "Saga {saga_id} is driven on by the sweep"),
    SignalType.SAGA_OVERDUE: (logging.WARNING, "Saga {saga_id} is overdue"),
    SignalType.STEP_COMPLETED: (logging.INFO, "{what} completed for saga {saga_id}"),
    SignalType.STEP_SKIPPED: (logging.INFO, "{what} was not needed for saga {saga_id}"),
    SignalType.STEP_RETRIED: (logging.WARNING, "{what} will be retried for saga {saga_id}: {reason}"),
    SignalType.STEP_FAILED: (logging.ERROR, "{what} failed for saga {saga_id}: {reason}"),
}


class Signals:
    """The listeners of one binding; signals are logged from the beginning."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = [log_signal]

    def connect(self, listener: Listener) -> Listener:
        """Register a listener for all signals of this process; return it.

        It is called in the thread that caused the signal, after the commit and before the messages that follow it are
        sent, so it must be quick. Its exceptions are logged and suppressed.
        """
        if listener not in self._listeners:
            self._listeners.append(listener)
        return listener

    def disconnect(self, listener: Listener) -> None:
        """Remove a listener."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def send_saga(
        self, kind: SignalType, saga: SagaInstance, *, at: datetime | None = None, reason: str | None = None
    ) -> None:
        """Send a signal about a saga after the commit of the current transaction; ``at`` is when it ended."""
        seconds = (at - saga.created_at).total_seconds() if at else None
        self._send_after_commit(kind, saga, seconds=seconds, reason=reason, current_step=saga.current_step)

    def send_step(self, kind: SignalType, saga: SagaInstance, entry: SagaStep, now: datetime) -> None:
        """Send a signal about an operation after the commit of the current transaction."""
        self._send_after_commit(
            kind,
            saga,
            step=entry.step,
            operation=Operation(entry.operation),
            attempt=entry.attempts,
            task_id=entry.task_id,
            seconds=(now - entry.started_at).total_seconds(),
            reason=entry.error,
        )

    def _send_after_commit(self, kind: SignalType, saga: SagaInstance, **details: Any) -> None:
        signal = SagaSignal(kind, saga.id, saga.aggregate_id, saga.saga_type, saga.pattern, **details)
        after_commit(current_transaction(), partial(self._dispatch, signal))

    def _dispatch(self, signal: SagaSignal) -> None:
        for listener in self._listeners:
            try:
                listener(signal)
            except Exception:
                # a failing listener must not keep messages from being sent
                logger.exception(f"{signal.kind}: a listener failed", extra={"saga_id": signal.saga_id})
