"""The saga log: read, lock and write sagas and the operations of their steps.

An operation is only written under the lock of its saga's row. So an operation takes effect once, whatever is delivered
twice, late or out of order; the primary key ``(saga_id, step, operation)`` guards against a writer without the lock.
The terms are those of the saga literature (DTM's "sub-transaction barrier"): *duplicate*, the same message again; *null
compensation*, a compensation whose action never ran; *hanging*, an action that arrives after its compensation.

The session does not track what is read here: a flush takes longer to find changes than the database to write them.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import BindParameter, Executable, Select, bindparam, case, insert, inspect, or_, select, update
from sqlalchemy.orm import InstanceState, Session

from durable_sagas.database import Base, all_as_loaded, as_loaded, table_of
from durable_sagas.definition import RETRY_UNTIL_STUCK, Operation, StepStatus
from durable_sagas.errors import NotFound
from durable_sagas.ids import is_uuid
from durable_sagas.models import SagaInstance, SagaStep

OPEN = frozenset({StepStatus.RUNNING, StepStatus.RETRYING})
"""The statuses of an operation that may still take effect."""

Log = dict[tuple[str, Operation], SagaStep]
"""The log of one saga, by step and operation."""


@dataclass(eq=False)
class SagaRecord:
    """A saga and its log; authoritative, and written by ``write``, only if it was read with a lock."""

    saga: SagaInstance
    log: Log = field(default_factory=dict)
    added: list[SagaStep] = field(default_factory=list)
    """The operations that ``write`` inserts."""

    def enter(self, step: str, operation: Operation, now: datetime) -> SagaStep:
        """Return an operation's entry, added with status ``running`` if there is none."""
        entry = self.log.get((step, operation))
        if entry is None:
            values = {
                "saga_id": self.saga.id,
                "step": step,
                "operation": operation,
                "status": StepStatus.RUNNING,
                "attempts": 0,
                "earlier_attempts": 0,
                "failures": [],
                "started_at": now,
            }
            entry = self.log[step, operation] = as_loaded(SagaStep, _BLANK | values)
            self.added.append(entry)
        return entry

    def block_action(self, step: str, now: datetime) -> SagaStep:
        """Block a step's action from now on, unless it already took effect; return its entry.

        An action that never ran gets an entry here (null compensation), which a late action finds (hanging).
        """
        entry = self.enter(step, Operation.ACTION, now)
        if entry.status in OPEN:
            entry.status = StepStatus.SKIPPED
            entry.error = entry.error or self.saga.error
            entry.finished_at = now
        return entry

    def exhausted(self) -> list[SagaStep]:
        """Return the operations that exhausted their retries without publishing an outcome, in a fixed order."""
        entries = (entry for _, entry in sorted(self.log.items()) if entry.event_id is None)
        return [entry for entry in entries if entry.status == StepStatus.FAILED or _is_exhausted_void(entry)]

    def reset(self, step: str, operation: Operation) -> None:
        """Reset a failed operation, with a full round of retries."""
        entry = self.log.get((step, operation))
        if entry and entry.status == StepStatus.FAILED:
            _reset(entry)

    def reset_exhausted(self) -> None:
        """Reset all exhausted operations, so that they are retried.

        A failed action whose failure was published is not among them: it is a fact. An action whose voiding was
        exhausted stays blocked, and gets a new round of retries.
        """
        for entry in self.exhausted():
            if entry.status == StepStatus.CLOSING:
                entry.earlier_attempts = entry.attempts
            else:
                _reset(entry)


def _is_exhausted_void(entry: SagaStep) -> bool:
    # an action that is being voided has this status from before the first attempt until after the last
    return entry.status == StepStatus.CLOSING and RETRY_UNTIL_STUCK.exhausted(entry.attempts - entry.earlier_attempts)


def _reset(entry: SagaStep) -> None:
    entry.status = StepStatus.RETRYING
    entry.earlier_attempts = entry.attempts
    entry.finished_at = None


def lock(session: Session, saga_id: str) -> SagaRecord:
    """Return a saga with its log, locked until the transaction ends. Raises NotFound."""
    for record in lock_all(session, [saga_id]):
        return record
    raise NotFound(f"there is no saga {saga_id}")


def lock_all(session: Session, saga_ids: Iterable[str]) -> list[SagaRecord]:
    """Lock those of these sagas that exist, in the order of their ids; return each with its log."""
    return _records(session, _LOCKED, saga_ids)


def read(session: Session, saga_id: str) -> SagaRecord | None:
    """Return a saga with its log, or None, without a lock: it may change at any time."""
    return next(iter(_records(session, _SEEN, [saga_id])), None)


def _records(session: Session, query: Select[Any], saga_ids: Iterable[str]) -> list[SagaRecord]:
    session.flush()
    connection = session.connection()
    ids = [saga_id for saga_id in saga_ids if is_uuid(saga_id)]
    records: dict[str, SagaRecord] = {}
    for saga in all_as_loaded(SagaInstance, tuple(_SAGA.values()), connection.execute(query, {"ids": ids})):
        records[saga.id] = SagaRecord(saga)
    if records:
        # a separate statement: one that waited for a lock sees other tables as they were before it waited
        logged = connection.execute(_LOGGED, {"ids": list(records)})
        for entry in all_as_loaded(SagaStep, tuple(_STEP.values()), logged):
            records[entry.saga_id].log[entry.step, Operation(entry.operation)] = entry
    return list(records.values())


def _attributes(model: type[Base]) -> dict[str, str]:
    """Return the names of a model's attributes by those of its columns, in the order of its table."""
    return {column.key: model.__mapper__.get_property_by_column(column).key for column in table_of(model).columns}


_SAGA, _STEP = _attributes(SagaInstance), _attributes(SagaStep)
_BLANK = dict.fromkeys(_STEP.values())
_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
# built once: they run with every step
_SEEN = select(table_of(SagaInstance)).where(SagaInstance.id.in_(_IDS))
# in the same order everywhere, to avoid deadlocks
_LOCKED = _SEEN.order_by(SagaInstance.id).with_for_update()
_LOGGED = select(table_of(SagaStep)).where(SagaStep.saga_id.in_(_IDS))
_INSERT_SAGAS, _INSERT_STEPS = insert(table_of(SagaInstance)), insert(table_of(SagaStep))


def write(session: Session, records: Iterable[SagaRecord]) -> None:
    """Write what changed in locked records, in as few statements as possible."""
    records = list(records)
    added = [entry for record in records for entry in record.added]
    new = set(map(id, added))
    logged = [entry for record in records for entry in record.log.values() if id(entry) not in new]
    statements = _updates(SagaInstance, [record.saga for record in records])
    if added:
        statements.append((_INSERT_STEPS, _rows(_STEP, added)))
    connection = session.connection()
    for statement, parameters in [*statements, *_updates(SagaStep, logged)]:
        connection.execute(statement, parameters)
    for record in records:
        record.added.clear()


def note_call(
    session: Session, saga_id: str, updated_at: datetime | None, deadline: datetime | None, until: datetime
) -> None:
    """Record that a saga's gateway is being called: it waits in no queue, and is checked next at ``until``.

    It is checked no later than at its deadline, which is not before ``deadline``. Nothing is recorded if it has made
    progress since ``updated_at``.
    """
    saga = table_of(SagaInstance).c
    own = saga.deadline_at
    postponed = case((own < deadline, deadline), else_=own) if deadline else own
    values = {
        "queue": None,
        "ready_at": None,
        "deadline_at": postponed,
        "wake_at": case((postponed < until, postponed), else_=until),
    }
    changes = or_(saga.queue.is_not(None), saga.wake_at < until)
    unfinished = [saga.id == saga_id, saga.wake_at.is_not(None), changes]
    if updated_at:
        unfinished.append(saga.updated_at == updated_at)
    session.execute(update(table_of(SagaInstance)).where(*unfinished).values(values))


_TOGETHER = "durable_sagas.new"


@contextmanager
def inserting_together(session: Session) -> Iterator[None]:
    """Write the new sagas of the block in one statement at its end."""
    records: list[SagaRecord] = []
    session.info[_TOGETHER] = records
    try:
        yield
    finally:
        del session.info[_TOGETHER]
    insert_new(session, records)


def insert_new(session: Session, records: Collection[SagaRecord]) -> None:
    """Write new sagas and their operations, in one statement each, now or with the others of the block."""
    if _TOGETHER in session.info:
        session.info[_TOGETHER] += records
        return
    connection = session.connection()
    if records:
        connection.execute(_INSERT_SAGAS, _rows(_SAGA, [record.saga for record in records]))
    if added := [entry for record in records for entry in record.added]:
        connection.execute(_INSERT_STEPS, _rows(_STEP, added))


def _rows(columns: Mapping[str, str], instances: Iterable[Base]) -> list[dict[str, Any]]:
    return [{column: getattr(instance, name) for column, name in columns.items()} for instance in instances]


def _updates(model: type[Base], instances: Iterable[Base]) -> list[tuple[Executable, list[dict[str, Any]]]]:
    """Return an UPDATE for each set of attributes that have changed, with its parameters."""
    attributes = frozenset((_SAGA if model is SagaInstance else _STEP).values())
    keys = _keys(model)
    updates: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for instance in instances:
        state: InstanceState[Any] = inspect(instance)
        if state.modified:
            changed = sorted(attributes - state.unmodified)
            values = {f"new_{name}": getattr(instance, name) for name in changed}
            values |= {f"key_{name}": getattr(instance, name) for name in keys}
            updates.setdefault(tuple(changed), []).append(values)
    return [(_update(model, names), parameters) for names, parameters in updates.items()]


@cache
def _keys(model: type[Base]) -> tuple[str, ...]:
    return tuple(column.key for column in table_of(model).primary_key)


@cache
def _update(model: type[Base], names: tuple[str, ...]) -> Executable:
    columns: dict[Any, Any] = {model.__mapper__.attrs[name].columns[0]: bindparam(f"new_{name}") for name in names}
    keys = [table_of(model).c[name] == bindparam(f"key_{name}") for name in _keys(model)]
    return update(table_of(model)).where(*keys).values(columns)
