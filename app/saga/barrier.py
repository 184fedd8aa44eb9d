"""The barrier: an operation of a step takes effect once, whatever is delivered twice, late or out of order.

The unique key ``(saga_id, step, operation)`` alone resolves every race, so it serves the choreography too, where the
saga's row decides nothing. The terms are those of the saga literature (DTM's "sub-transaction barrier"): *duplicate*,
the same message again; *null compensation*, a compensation whose action never ran; *hanging*, an action that arrives
after its compensation.
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
"""The statuses of an operation that may still take effect."""

NAME_BASED = 5
"""The version of the UUIDs returned by ``events.delivery_of``."""

Entry = Row[Any]
"""A read-only log entry of an operation: the columns of ``SagaStep`` that decisions depend on."""

Log = dict[tuple[str, Operation], Entry]
"""The log of one saga, by step and operation."""


def peek(session: Session, saga_id: str, step: str, operation: Operation) -> SagaStep | None:
    """Return an operation's row, or None, without creating or locking it."""
    return session.get(SagaStep, (saga_id, step, operation))


def enter(session: Session, saga_id: str, step: str, operation: Operation, now: datetime) -> SagaStep:
    """Create an operation's row unless it exists; return it, locked until the transaction ends.

    A new row has status ``running`` and disappears with a rollback. The unique key serializes two transactions that
    enter at the same time: the second waits for the first to end.
    """
    values = _untouched(saga_id, step, operation, now)
    session.execute(insert_if_absent(session, SagaStep).values(**values).on_conflict_do_nothing())
    key = (SagaStep.saga_id == saga_id, SagaStep.step == step, SagaStep.operation == operation)
    query = select(SagaStep).where(*key).with_for_update().execution_options(populate_existing=True)
    return session.scalars(query).one()


def locked(session: Session, saga_ids: Iterable[str]) -> list[tuple[SagaInstance, Log]]:
    """Lock those of these sagas that exist, in the order of their ids; return each with its log.

    The session does not track these objects: write changes with ``write``.
    """
    known = [saga_id for saga_id in saga_ids if is_uuid(saga_id)]
    session.flush()
    sagas = [_saga(row) for row in session.connection().execute(_LOCKED, {"ids": known})]
    # a separate statement: one that waited for a lock sees other tables as they were before it waited
    logs = logged(session, [saga.id for saga in sagas])
    return [(saga, logs[saga.id]) for saga in sagas]


def seen(session: Session, saga_id: str) -> SagaInstance | None:
    """Return a saga, read-only and unlocked: its row may change at any time."""
    row = session.connection().execute(_SEEN, {"ids": [saga_id]}).one_or_none() if is_uuid(saga_id) else None
    return _saga(row) if row else None


def logged(session: Session, saga_ids: Collection[str]) -> dict[str, Log]:
    """Return the logs of these sagas. They are authoritative only while the sagas' rows are locked."""
    logs: dict[str, Log] = {saga_id: {} for saga_id in saga_ids}
    if logs:
        session.flush()
        for entry in session.connection().execute(_LOGGED, {"ids": list(saga_ids)}):
            logs[entry.saga_id][entry.step, Operation(entry.operation)] = entry
    return logs


_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
# built once: they run with every step
_SEEN = select(table_of(SagaInstance)).where(SagaInstance.id.in_(_IDS))
# in the same order everywhere, to avoid deadlocks
_LOCKED = _SEEN.order_by(SagaInstance.id).with_for_update()
_ENTRY = ("saga_id", "step", "operation", "status", "attempts", "task_id", "delivery_id", "result", "error", "event_id")
_LOGGED = select(*(table_of(SagaStep).c[name] for name in _ENTRY)).where(SagaStep.saga_id.in_(_IDS))


def _saga(row: Row[Any]) -> SagaInstance:
    return as_loaded(SagaInstance, dict(zip(_SAGA_COLUMNS, row, strict=True)))


_SAGA_COLUMNS = [SagaInstance.__mapper__.get_property_by_column(column).key for column in _SEEN.selected_columns]


def is_free(log: Log, step: str, operation: Operation) -> bool:
    """Return whether an operation has no log entry: it was neither tried nor blocked."""
    return (step, operation) not in log


def delivery_of(entry: Entry) -> str | None:
    """Return the delivery (``events.delivery_of``) that last attempted an operation, if the entry has it.

    Versions without the column ``delivery_id`` logged the task id, which is the delivery (a UUID of version 5) only in
    a message's first copy: later copies have random ids.
    """
    logged: str | None = entry.delivery_id
    if logged is None and is_uuid(entry.task_id) and UUID(entry.task_id).version == NAME_BASED:
        logged = str(entry.task_id)
    return logged


def finished_deliveries(log: Log) -> frozenset[str | None]:
    """Return the deliveries whose operations have ended, so that the events they published are stored."""
    open_ = OPEN | {StepStatus.CLOSING}
    return frozenset(delivery_of(entry) for entry in log.values() if entry.status not in open_)


def done(log: Log) -> frozenset[str]:
    """Return the steps whose action took effect according to a log."""
    return frozenset(step for (step, operation), row in log.items() if _is_done(operation, row))


def _is_done(operation: Operation, row: Entry) -> bool:
    return operation is Operation.ACTION and row.status == StepStatus.COMPLETED


def take(saga_id: str, step: str, operation: Operation, now: datetime) -> SagaStep:
    """Return a new row for an operation of a locked saga that has no log entry, to be written with ``write``.

    If another transaction has inserted it despite the lock, the unique key makes this one fail.
    """
    return as_loaded(SagaStep, _BLANK | _untouched(saga_id, step, operation, now))


def write(session: Session, sagas: Iterable[SagaInstance], taken: Collection[SagaStep]) -> None:
    """Write the changes of locked sagas, and new operations, in as few statements as possible.

    Equivalent to a flush; but a flush takes longer to find the changes than to write them.
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
    """Write new sagas in one statement; as with ``write`` a flush would take longer."""
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
    """Block a step's action from now on, unless it already took effect; return its row.

    If the action never ran its row is created here (null compensation), so that a late action collides with it
    (hanging).
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
    """Reset a failed operation, with a full round of retries."""
    row = session.get(SagaStep, (saga_id, step, operation), with_for_update=True)
    if row and row.status == StepStatus.FAILED:
        _reopen(row)


def exhausted(session: Session, saga_id: str) -> Sequence[SagaStep]:
    """Return, locked, the operations of a saga that exhausted their retries without publishing an outcome."""
    ended = SagaStep.status.in_([StepStatus.FAILED, StepStatus.CLOSING])
    unsaid = select(SagaStep).where(SagaStep.saga_id == saga_id, ended, SagaStep.event_id.is_(None))
    rows = session.scalars(unsaid.order_by(SagaStep.step, SagaStep.operation).with_for_update())
    return [row for row in rows if row.status == StepStatus.FAILED or _closing_in_vain(row)]


def _closing_in_vain(row: SagaStep) -> bool:
    # an action that is being voided has this status from before the first attempt until after the last
    return RETRY_UNTIL_STUCK.exhausted(row.attempts - row.earlier_attempts)


def reset_exhausted(session: Session, saga_id: str) -> None:
    """Reset all exhausted operations of a saga, so that they are retried.

    A failed action whose failure was published is not among them: it is a fact. An action whose voiding was exhausted
    stays blocked, and gets a new round of retries.
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
