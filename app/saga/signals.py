"""What happens to sagas and their steps, told once, after the commit that made it true.

Logs, metrics and traces listen here, so that each thing is said in one place and means the same to all of them. A
process that dies between the commit and the telling tells nobody: the saga log in the database is the truth, and the
rest is for people who watch.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial

from app.database import after_commit, current_transaction
from app.saga.definition import Operation
from app.saga.models import SagaInstance, SagaStep

logger = logging.getLogger(__name__)


class SignalType(StrEnum):
    """What can happen."""

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
    """One thing that happened to a saga, or to an operation of one of its steps.

    ``seconds`` is how long the attempt took that ended, or the whole saga that did. ``step`` and ``operation`` are
    None where a saga as a whole is meant; ``current_step`` then says where it stood, if anywhere.
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


def write_line(happening: SagaSignal) -> None:
    """Log a happening as one line, in the words of seed 000 where it has some."""
    level, words = _LINES[happening.kind]
    if not logger.isEnabledFor(level):
        return
    told = vars(happening)
    context = {name: value for name, value in told.items() if value is not None and name != "kind"}
    if happening.seconds is not None:
        context["seconds"] = round(happening.seconds, 3)
    message = words.format(**told, what=_what(happening), saga_class=_saga_class(happening.saga_type))
    logger.log(level, message, extra=context)


def _what(happening: SagaSignal) -> str:
    return f"Undoing {happening.step}" if happening.operation is Operation.COMPENSATION else f"Step {happening.step}"


def _saga_class(saga_type: str) -> str:
    """Return the name that seed 000 gives a type of saga in its log: ``OrderSaga`` for ``order``."""
    return "".join(word.capitalize() for word in re.split(r"\W|_", saga_type)) + "Saga"


_LINES = {
    SignalType.SAGA_STARTED: (logging.INFO, "Starting saga {saga_id} with {saga_class}"),
    SignalType.SAGA_TURNED_BACK: (logging.INFO, "Starting compensation for saga {saga_id}"),
    SignalType.SAGA_COMPLETED: (logging.INFO, "Saga {saga_id} completed successfully"),
    SignalType.SAGA_COMPENSATED: (logging.INFO, "Saga {saga_id} compensated"),
    SignalType.SAGA_STUCK: (logging.ERROR, "Saga {saga_id} is stuck"),
    SignalType.SAGA_RESUMED: (logging.INFO, "Saga {saga_id} goes on, by an operator"),
    SignalType.SAGA_REDRIVEN: (logging.INFO, "Saga {saga_id} is driven on by the sweep"),
    SignalType.SAGA_OVERDUE: (logging.WARNING, "Saga {saga_id} is overdue"),
    SignalType.STEP_COMPLETED: (logging.INFO, "{what} completed for saga {saga_id}"),
    SignalType.STEP_SKIPPED: (logging.INFO, "{what} was not needed for saga {saga_id}"),
    SignalType.STEP_RETRIED: (logging.WARNING, "{what} will be retried for saga {saga_id}"),
    SignalType.STEP_FAILED: (logging.ERROR, "{what} failed for saga {saga_id}"),
}

_listeners: list[Listener] = [write_line]


def connect(listener: Listener) -> None:
    """Have a function called with everything that happens in this process from now on.

    It is called in the thread that did it, after the commit, and what follows may be sent only after it, so it must be
    quick. What it raises is logged, and concerns nobody else.
    """
    if listener not in _listeners:
        _listeners.append(listener)


def disconnect(listener: Listener) -> None:
    """Have a function called no more."""
    if listener in _listeners:
        _listeners.remove(listener)


def send_saga(kind: SignalType, saga: SagaInstance, *, at: datetime | None = None, reason: str | None = None) -> None:
    """Tell, after the commit, what happens to a saga in the current transaction; ``at`` is when it ended, if it did."""
    seconds = (at - saga.created_at).total_seconds() if at else None
    _tell_after_commit(replace(_about(kind, saga), seconds=seconds, reason=reason, current_step=saga.current_step))


def send_step(kind: SignalType, saga: SagaInstance, row: SagaStep, now: datetime) -> None:
    """Tell, after the commit, what happens in the current transaction to an operation, whose row says the rest."""
    _tell_after_commit(
        replace(
            _about(kind, saga),
            step=row.step,
            operation=Operation(row.operation),
            attempt=row.attempts,
            task_id=row.task_id,
            seconds=(now - row.started_at).total_seconds(),
            reason=row.error,
        ),
    )


def _about(kind: SignalType, saga: SagaInstance) -> SagaSignal:
    return SagaSignal(kind, saga.id, saga.aggregate_id, saga.saga_type, saga.pattern)


def _tell_after_commit(happening: SagaSignal) -> None:
    after_commit(current_transaction(), partial(_tell, happening))


def _tell(happening: SagaSignal) -> None:
    for listener in _listeners:
        try:
            listener(happening)
        except Exception:
            # nobody who only watches may keep a message from being sent
            logger.exception(f"{happening.kind}: a listener failed", extra={"saga_id": happening.saga_id})
