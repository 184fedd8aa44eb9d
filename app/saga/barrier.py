"""The barrier: an operation of a step happens once, whatever is delivered twice, late or in the wrong order.

The unique key ``(saga_id, step, operation)`` alone decides every race, so it serves the choreography too, where
nobody decides by the saga's row. The terms are those of the saga literature (DTM's "sub-transaction barrier"):
*duplicate*, the same message again; *null compensation*, an undo whose action never ran; *hanging*, an action that
arrives after it.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, cast

from sqlalchemy import BindParameter, Table, Update, bindparam, insert, inspect, select, update
from sqlalchemy.orm import Session

from app.database import insert_if_absent
from app.ids import is_uuid
from app.saga.definition import PERSISTENT, Operation, StepStatus
from app.saga.models import SagaInstance, SagaStep

OPEN = frozenset({StepStatus.RUNNING, StepStatus.RETRYING})
"""An operation with one of these may still take effect."""

Log = dict[tuple[str, Operation], SagaStep]
"""What the log says of one saga: the row of each operation, by step and operation."""


def peek(session: Session, saga_id: str, step: str, operation: Operation) -> SagaStep | None:
    """Return what the log says of an operation, without taking it."""
    return session.get(SagaStep, (saga_id, step, operation))


def enter(session: Session, saga_id: str, step: str, operation: Operation, now: datetime) -> SagaStep:
    """Take an operation, or find that it was taken: returns its row, locked until the transaction ends.

    A fresh row has status ``running`` and disappears with a rollback. Two transactions that enter at the same time
    are put in order by the unique key: the second waits for the first to end.
    """
    values = _untouched(saga_id, step, operation, now)
    session.execute(insert_if_absent(session, SagaStep).values(**values).on_conflict_do_nothing())
    key = (SagaStep.saga_id == saga_id, SagaStep.step == step, SagaStep.operation == operation)
    query = select(SagaStep).where(*key).with_for_update().execution_options(populate_existing=True)
    return session.scalars(query).one()


def locked(session: Session, saga_ids: Iterable[str]) -> list[tuple[SagaInstance, Log]]:
    """Lock those of these sagas that exist, in the order of their ids; returns each with all that its log says."""
    known = [saga_id for saga_id in saga_ids if is_uuid(saga_id)]
    sagas = session.scalars(_LOCKED, {"ids": known}).all()
    # a statement of its own: one that has waited for a lock sees in other tables what was there before it waited
    logs = logged(session, [saga.id for saga in sagas])
    return [(saga, logs[saga.id]) for saga in sagas]


def logged(session: Session, saga_ids: Collection[str]) -> dict[str, Log]:
    """Return all that the log says of these sagas. It says the last word only while their rows are locked."""
    logs: dict[str, Log] = {saga_id: {} for saga_id in saga_ids}
    if logs:
        for row in session.scalars(_LOGGED, {"ids": list(saga_ids)}):
            logs[row.saga_id][row.step, Operation(row.operation)] = row
    return logs


_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
# made once: these are asked for with every step. In one order everywhere, or two who lock could wait for each other
_LOCKED = select(SagaInstance).where(SagaInstance.id.in_(_IDS)).order_by(SagaInstance.id).with_for_update()
_LOGGED = select(SagaStep).where(SagaStep.saga_id.in_(_IDS))


def is_free(log: Log, step: str, operation: Operation) -> bool:
    """Tell whether the log says nothing of an operation: nobody has tried it, and nobody has shut its door."""
    return (step, operation) not in log


def done(log: Log) -> frozenset[str]:
    """Return the steps of which a log says that their action took effect."""
    return frozenset(step for (step, operation), row in log.items() if _is_done(operation, row))


def _is_done(operation: Operation, row: SagaStep) -> bool:
    return operation is Operation.ACTION and row.status == StepStatus.COMPLETED


def take(saga_id: str, step: str, operation: Operation, now: datetime) -> SagaStep:
    """Take an operation of a locked saga that its log does not know of; returns its row, for ``write``.

    Should somebody have taken it in spite of the lock, the unique key has the transaction fail.
    """
    return SagaStep(**_untouched(saga_id, step, operation, now))


def write(session: Session, sagas: Iterable[SagaInstance], taken: Collection[SagaStep]) -> None:
    """Write what has changed of locked sagas, and the operations that were taken, by as few statements as possible.

    It is what a flush would do; but to find out what to write a flush takes longer than to write it.
    """
    updates: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for saga in sagas:
        if changed := tuple(sorted(_SAGA - inspect(saga).unmodified)):
            session.expunge(saga)
            updates.setdefault(changed, []).append({"of": saga.id, **{name: getattr(saga, name) for name in changed}})
    for changed, rows in updates.items():
        session.connection().execute(_update(changed), rows)
    if taken:
        session.connection().execute(_INSERT, [{name: getattr(row, name) for name in _STEP} for row in taken])


_SAGA = frozenset(column.key for column in SagaInstance.__mapper__.column_attrs)
_STEP = [column.key for column in SagaStep.__mapper__.column_attrs]
_INSERT = insert(cast(Table, SagaStep.__table__))


@cache
def _update(changed: tuple[str, ...]) -> Update:
    columns: dict[Any, Any] = {SagaInstance.__mapper__.attrs[name].columns[0]: bindparam(name) for name in changed}
    return update(cast(Table, SagaInstance.__table__)).where(SagaInstance.id == bindparam("of")).values(columns)


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


def _untouched(saga_id: str, step: str, operation: Operation, now: datetime) -> dict[str, Any]:
    return {
        "saga_id": saga_id,
        "step": step,
        "operation": operation,
        "status": StepStatus.RUNNING,
        "attempts": 0,
        "earlier_attempts": 0,
        "failures": [],
        "started_at": now,
    }


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
