"""The barrier: an operation of a step happens once, whatever is delivered twice, late or in the wrong order.

The unique key ``(saga_id, step, operation)`` alone decides every race, so it serves the choreography too, where
nobody decides by the saga's row. The terms are those of the saga literature (DTM's "sub-transaction barrier"):
*duplicate*, the same message again; *null compensation*, an undo whose action never ran; *hanging*, an action that
arrives after it.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database import insert_if_absent
from app.saga.definition import PERSISTENT, Operation, StepStatus
from app.saga.models import SagaStep

OPEN = frozenset({StepStatus.RUNNING, StepStatus.RETRYING})
"""An operation with one of these may still take effect."""


def peek(session: Session, saga_id: str, step: str, operation: Operation) -> SagaStep | None:
    """Return what the log says of an operation, without taking it."""
    return session.get(SagaStep, (saga_id, step, operation))


def completed(session: Session, saga_id: str, operation: Operation) -> frozenset[str]:
    """Return the steps of which the log says that this operation took effect."""
    done = (SagaStep.saga_id == saga_id, SagaStep.operation == operation, SagaStep.status == StepStatus.COMPLETED)
    return frozenset(session.scalars(select(SagaStep.step).where(*done)))


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
        "earlier_attempts": 0,
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


def reopen(session: Session, saga_id: str, step: str, operation: Operation) -> None:
    """Let an operation that was given up be tried again, with a full round of retries."""
    row = session.get(SagaStep, (saga_id, step, operation), with_for_update=True)
    if row and row.status == StepStatus.FAILED:
        _reopen(row)


def given_up(session: Session, saga_id: str) -> Sequence[SagaStep]:
    """Return the operations of a saga that were given up before they could say how they ended, locked."""
    ended = SagaStep.status.in_([StepStatus.FAILED, StepStatus.CLOSING])
    unsaid = select(SagaStep).where(SagaStep.saga_id == saga_id, ended, SagaStep.event_id.is_(None))
    rows = session.scalars(unsaid.order_by(SagaStep.step, SagaStep.operation).with_for_update())
    return [row for row in rows if row.status == StepStatus.FAILED or _closing_in_vain(row)]


def _closing_in_vain(row: SagaStep) -> bool:
    # a door that is being closed has this status from before the first attempt to its last
    return PERSISTENT.exhausted(row.attempts - row.earlier_attempts)


def reopen_unsaid(session: Session, saga_id: str) -> None:
    """Let every operation of a saga be tried again that was given up before it could say how it ended.

    An action that failed and said so is not among them: its failure is a fact. One whose voiding was given up stays
    shut, and has a new round of retries.
    """
    for row in given_up(session, saga_id):
        if row.status == StepStatus.CLOSING:
            row.earlier_attempts = row.attempts
        else:
            _reopen(row)


def _reopen(row: SagaStep) -> None:
    row.status = StepStatus.RETRYING
    row.earlier_attempts = row.attempts
    row.finished_at = None
