"""The barrier: an operation of a step happens once, whatever is delivered twice, late or in the wrong order.

The unique key ``(saga_id, step, operation)`` alone decides every race, so it serves the choreography too, where
nobody decides by the saga's row. The terms are those of the saga literature (DTM's "sub-transaction barrier"):
*duplicate*, the same message again; *null compensation*, an undo whose action never ran; *hanging*, an action that
arrives after it.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import BindParameter, Row, Update, bindparam, insert, inspect, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_dict

from app.database import as_loaded, insert_if_absent, table_of
from app.ids import is_uuid
from app.saga.definition import RETRY_UNTIL_STUCK, Operation, StepStatus
from app.saga.models import SagaInstance, SagaStep

OPEN = frozenset({StepStatus.RUNNING, StepStatus.RETRYING})
"""An operation with one of these may still take effect."""

NAME_BASED = 5
"""The version of the UUIDs that ``events.delivery_of`` makes."""

Entry = Row[Any]
"""What the log says of an operation, to be read only: those columns of ``SagaStep`` that something is decided by."""

Log = dict[tuple[str, Operation], Entry]
"""What the log says of one saga, by step and operation."""


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
    """Lock those of these sagas that exist, in the order of their ids; returns each with all that its log says.

    The session does not know these objects: who changes them has them written by ``write``.
    """
    known = [saga_id for saga_id in saga_ids if is_uuid(saga_id)]
    session.flush()
    sagas = [_saga(row) for row in session.connection().execute(_LOCKED, {"ids": known})]
    # a statement of its own: one that has waited for a lock sees in other tables what was there before it waited
    logs = logged(session, [saga.id for saga in sagas])
    return [(saga, logs[saga.id]) for saga in sagas]


def seen(session: Session, saga_id: str) -> SagaInstance | None:
    """Return a saga to be read only, as it is at present: without its lock that says nothing for certain."""
    row = session.connection().execute(_SEEN, {"ids": [saga_id]}).one_or_none() if is_uuid(saga_id) else None
    return _saga(row) if row else None


def logged(session: Session, saga_ids: Collection[str]) -> dict[str, Log]:
    """Return all that the log says of these sagas. It says the last word only while their rows are locked."""
    logs: dict[str, Log] = {saga_id: {} for saga_id in saga_ids}
    if logs:
        session.flush()
        for entry in session.connection().execute(_LOGGED, {"ids": list(saga_ids)}):
            logs[entry.saga_id][entry.step, Operation(entry.operation)] = entry
    return logs


_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
# made once: these are asked for with every step
_SEEN = select(table_of(SagaInstance)).where(SagaInstance.id.in_(_IDS))
# in one order everywhere, or two who lock could wait for each other
_LOCKED = _SEEN.order_by(SagaInstance.id).with_for_update()
_ENTRY = ("saga_id", "step", "operation", "status", "attempts", "task_id", "delivery_id", "result", "error", "event_id")
_LOGGED = select(*(table_of(SagaStep).c[name] for name in _ENTRY)).where(SagaStep.saga_id.in_(_IDS))


def _saga(row: Row[Any]) -> SagaInstance:
    return as_loaded(SagaInstance, dict(zip(_SAGA_COLUMNS, row, strict=True)))


_SAGA_COLUMNS = [SagaInstance.__mapper__.get_property_by_column(column).key for column in _SEEN.selected_columns]


def is_free(log: Log, step: str, operation: Operation) -> bool:
    """Tell whether the log says nothing of an operation: nobody has tried it, and nobody has shut its door."""
    return (step, operation) not in log


def delivery_of(entry: Entry) -> str | None:
    """Return the delivery (``events.delivery_of``) that last attempted an operation, if the log names it.

    A version without the column ``delivery_id`` logged the task id, which is the delivery (a UUID of version 5) only
    in a message's first copy: later copies have random ids.
    """
    logged: str | None = entry.delivery_id
    if logged is None and is_uuid(entry.task_id) and UUID(entry.task_id).version == NAME_BASED:
        logged = str(entry.task_id)
    return logged


def finished_deliveries(log: Log) -> frozenset[str | None]:
    """Return the deliveries whose operations have ended: the events they published are written."""
    open_ = OPEN | {StepStatus.CLOSING}
    return frozenset(delivery_of(entry) for entry in log.values() if entry.status not in open_)


def done(log: Log) -> frozenset[str]:
    """Return the steps of which a log says that their action took effect."""
    return frozenset(step for (step, operation), row in log.items() if _is_done(operation, row))


def _is_done(operation: Operation, row: Entry) -> bool:
    return operation is Operation.ACTION and row.status == StepStatus.COMPLETED


def take(saga_id: str, step: str, operation: Operation, now: datetime) -> SagaStep:
    """Take an operation of a locked saga that its log does not know of; returns its row, to be written.

    Should somebody have taken it in spite of the lock, the unique key has the transaction fail.
    """
    return as_loaded(SagaStep, _BLANK | _untouched(saga_id, step, operation, now))


def write(session: Session, sagas: Iterable[SagaInstance], taken: Collection[SagaStep]) -> None:
    """Write what has changed of locked sagas, and the operations that were taken, by as few statements as possible.

    It is what a flush would do; but to find out what to write a flush takes longer than to write it.
    """
    updates: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for saga in sagas:
        if changed := tuple(sorted(_SAGA - inspect(saga).unmodified)):
            updates.setdefault(changed, []).append({"of": saga.id, **{name: getattr(saga, name) for name in changed}})
    for changed, rows in updates.items():
        session.connection().execute(_update(changed), rows)
    if taken:
        session.connection().execute(_INSERT, [_values(row) for row in taken])


def write_new(session: Session, sagas: Iterable[SagaInstance]) -> None:
    """Write new sagas, by one statement; as with ``write`` a flush would take longer."""
    columns = table_of(SagaInstance).columns.keys()
    rows = [dict(zip(columns, (getattr(saga, name) for name in _SAGA_COLUMNS), strict=True)) for saga in sagas]
    if rows:
        session.connection().execute(_INSERT_SAGA, rows)


def _values(row: SagaStep) -> dict[str, Any]:
    values = instance_dict(row)
    return {name: values[name] for name in _BLANK}


_SAGA = frozenset(_SAGA_COLUMNS)
_BLANK = dict.fromkeys(column.key for column in SagaStep.__mapper__.column_attrs)
_INSERT = insert(table_of(SagaStep))
_INSERT_SAGA = insert(table_of(SagaInstance))


@cache
def _update(changed: tuple[str, ...]) -> Update:
    columns: dict[Any, Any] = {SagaInstance.__mapper__.attrs[name].columns[0]: bindparam(name) for name in changed}
    return update(table_of(SagaInstance)).where(SagaInstance.id == bindparam("of")).values(columns)


def block_action(session: Session, saga_id: str, step: str, now: datetime, reason: str | None) -> SagaStep:
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


def exhausted(session: Session, saga_id: str) -> Sequence[SagaStep]:
    """Return the operations of a saga that were given up before they could say how they ended, locked."""
    ended = SagaStep.status.in_([StepStatus.FAILED, StepStatus.CLOSING])
    unsaid = select(SagaStep).where(SagaStep.saga_id == saga_id, ended, SagaStep.event_id.is_(None))
    rows = session.scalars(unsaid.order_by(SagaStep.step, SagaStep.operation).with_for_update())
    return [row for row in rows if row.status == StepStatus.FAILED or _closing_in_vain(row)]


def _closing_in_vain(row: SagaStep) -> bool:
    # a door that is being closed has this status from before the first attempt to its last
    return RETRY_UNTIL_STUCK.exhausted(row.attempts - row.earlier_attempts)


def reset_exhausted(session: Session, saga_id: str) -> None:
    """Let every operation of a saga be tried again that was given up before it could say how it ended.

    An action that failed and said so is not among them: its failure is a fact. One whose voiding was given up stays
    shut, and has a new round of retries.
    """
    for row in exhausted(session, saga_id):
        if row.status == StepStatus.CLOSING:
            row.earlier_attempts = row.attempts
        else:
            _reopen(row)


def _reopen(row: SagaStep) -> None:
    row.status = StepStatus.RETRYING
    row.earlier_attempts = row.attempts
    row.finished_at = None
