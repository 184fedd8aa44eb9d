"""The barrier: an operation of a step happens once, whatever is delivered twice, late or in the wrong order.

The unique key ``(saga_id, step, operation)`` alone decides every race, so it serves the choreography too, which
has no row to lock. The terms are those of the saga literature (DTM's "sub-transaction barrier"): *duplicate*, the
same message again; *null compensation*, an undo whose action never ran; *hanging*, an action that arrives after it.
"""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database import insert_if_absent
from app.saga.definition import Operation, StepStatus
from app.saga.models import SagaStep

OPEN = frozenset({StepStatus.RUNNING, StepStatus.RETRYING})
"""An operation with one of these may still take effect."""


def peek(session: Session, saga_id: str, step: str, operation: Operation) -> SagaStep | None:
    """Return what the log says of an operation, without taking it."""
    return session.get(SagaStep, (saga_id, step, operation))


def enter(session: Session, saga_id: str, step: str, operation: Operation, now: datetime) -> SagaStep:
    """Take an operation, or find that it was taken: returns its row, locked until the transaction ends.

    A fresh row has status ``running`` and disappears with a rollback. Two transactions that enter at the same time
    are put in order by the unique key: the second waits for the first to end.
    """
    values = {
        "saga_id": saga_id,
        "step": step,
        "operation": operation,
        "status": StepStatus.RUNNING,
        "attempts": 0,
        "failures": [],
        "started_at": now,
    }
    session.execute(insert_if_absent(session, SagaStep).values(**values).on_conflict_do_nothing())
    key = (SagaStep.saga_id == saga_id, SagaStep.step == step, SagaStep.operation == operation)
    query = select(SagaStep).where(*key).with_for_update().execution_options(populate_existing=True)
    return session.scalars(query).one()


def close_door(session: Session, saga_id: str, step: str, now: datetime, reason: str | None) -> SagaStep:
    """See to it that a step's action cannot take effect from now on, unless it already has; returns its row.

    If the action never ran its row is made here (null compensation), and a late action collides with it (hanging).
    """
    row = enter(session, saga_id, step, Operation.ACTION, now)
    if row.status in OPEN:
        row.status = StepStatus.SKIPPED
        row.error = row.error or reason
        row.finished_at = now
    return row


def reopen(session: Session, saga_id: str, operation: Operation, step: str | None = None) -> None:
    """Let operations that were given up be tried again: that of one step, or of all."""
    failed = (SagaStep.saga_id == saga_id, SagaStep.operation == operation, SagaStep.status == StepStatus.FAILED)
    of_step = (SagaStep.step == step,) if step else ()
    for row in session.scalars(select(SagaStep).where(*failed, *of_step).with_for_update()):
        row.status = StepStatus.RETRYING
        row.finished_at = None
