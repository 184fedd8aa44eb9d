"""Finding sagas among a million: by any filters, newest first; by any id; how many there are; what needs somebody.

Sagas of one status and one type lie next to each other in an index, by id and so by age. A filter wants some of these
stretches; the newest of each are put together. So a page reads a few entries of an index wherever the matches are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVarTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Index,
    Row,
    Select,
    String,
    func,
    literal,
    literal_column,
    null,
    select,
    text,
    tuple_,
    union_all,
)
from sqlalchemy.orm import Session, load_only
from sqlalchemy.sql.expression import FromClause

from app import runtime
from app.events import StoredEvent
from app.saga.definition import ACTIVE, TERMINAL, OperatorActionType, SagaStatus
from app.saga.models import OperatorAction, SagaInstance, SagaStep
from app.saga.stuck_groups import StuckGroup, error_class
from tasks.payments import Payment
from tasks.shipping import Shipment
from workflows.orders import SAGAS

FIRST, LAST = str(UUID(int=0)), str(UUID(int=2**128 - 1))
"""Ids before and after all others."""

UNFINISHED = tuple(status for status in SagaStatus if status not in TERMINAL)
COUNTED = {status: 10_000 if status in TERMINAL else 100_000 for status in SagaStatus}
"""How far sagas of a status are counted: those that have ended pile up, of the others people want to know how many."""
SAMPLE_SIZE = 5_000
"""How many stuck sagas, at most, are sorted by what they are stuck on."""
MAX_FOUND = 50

Columns = TypeVarTuple("Columns")
IndexRange = tuple[SagaStatus, str]

customer_of: ColumnElement[str] = literal_column("(payload ->> 'customer_id')", String)
"""Whose order a saga is about: the engine does not know, but what an order's saga works with says it."""

_AT_A_STEP = text("current_step IS NOT NULL")
STRETCH = (SagaInstance.status, SagaInstance.saga_type, SagaInstance.id)
"""What sagas are sorted by in the index that the search walks along."""

SHOWN_COLUMNS = (
    SagaInstance.id,
    SagaInstance.saga_type,
    SagaInstance.aggregate_id,
    SagaInstance.status,
    SagaInstance.state,
    SagaInstance.current_step,
    SagaInstance.payload,
    SagaInstance.error,
    SagaInstance.stuck_reason,
    SagaInstance.created_at,
    SagaInstance.updated_at,
)
"""What a table of sagas shows of each."""

# a last column spares a look at the rows that another filter does not want
Index("ix_saga_instances_customer", customer_of, *STRETCH, SagaInstance.current_step)
Index(
    "ix_saga_instances_current_step",
    SagaInstance.current_step,
    *STRETCH,
    customer_of,
    postgresql_where=_AT_A_STEP,
    sqlite_where=_AT_A_STEP,
)


@dataclass(frozen=True)
class Wanted:
    """Which sagas are looked for; ``step`` is their current one."""

    status: SagaStatus | None = None
    saga_type: str | None = None
    step: str | None = None
    customer_id: str | None = None


@dataclass(frozen=True)
class Count:
    """How many there are, or that there are more than ``number``."""

    number: int
    more: bool = False


@dataclass(frozen=True)
class Incident:
    """What several sagas are stuck on: a step, and a class of error; ``since`` when the first of them is."""

    step: str | None
    error: str
    reason: str
    """The reason of one of them, and whether all have the same."""
    same_reason: bool
    sagas: int
    since: datetime


@dataclass(frozen=True)
class StuckSagas:
    """The sagas of one group of stuck ones: the newest of them, and how many there are."""

    group: StuckGroup
    sagas: Sequence[SagaInstance]
    number: int
    more: bool
    """Whether more are stuck on this step than were looked at."""


@dataclass(frozen=True)
class ResumedSagas:
    """The sagas that were resumed together, as they are now: how many of each status, and the newest that are shown."""

    number: int
    ended: int
    stuck_count: int
    active_count: int
    stuck: Sequence[SagaInstance]
    active: Sequence[SagaInstance]


@dataclass(frozen=True)
class Incidents:
    """How many sagas are stuck, as far as they were looked at, and on what, the most frequent first."""

    sagas: Count
    groups: Sequence[Incident]
    hidden: int
    """How many groups are not among ``groups``."""


def newest(session: Session, wanted: Wanted, *, after: str | None, limit: int) -> Sequence[str]:
    """Return the ids of the newest sagas that are wanted; ``after`` is the last one seen."""
    # a saga's id is a UUID of version 7: it grows with time, so ids are in the order of creation
    before = after or LAST
    if wanted == Wanted():
        everything = select(SagaInstance.id).where(SagaInstance.id < before)
        return session.scalars(everything.order_by(SagaInstance.id.desc()).limit(limit)).all()
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    parts = [_newest_of(stretch, wanted, before, limit, on_sqlite) for stretch in stretches(session, wanted)]
    if not parts:
        return []
    together = union_all(*(select(part.c.id) for part in parts)).subquery()
    return session.scalars(select(together.c.id).order_by(together.c.id.desc()).limit(limit)).all()


def counts() -> Mapping[SagaStatus, Count]:
    """Return how many sagas there are of each status, counted as far as ``COUNTED`` says."""
    with runtime.current().database.reading() as session:
        counted = session.execute(select(*(_count(status).label(status) for status in SagaStatus))).one()._mapping
    return {status: Count(min(counted[status], limit), counted[status] > limit) for status, limit in COUNTED.items()}


def incidents(limit: int) -> Incidents:
    """Return what sagas are stuck on, at most ``limit`` different things."""
    stuck = select(SagaInstance.current_step, SagaInstance.stuck_reason, SagaInstance.updated_at)
    with runtime.current().database.reading() as session:
        rows = session.execute(_of_status(stuck, SagaStatus.STUCK, SAMPLE_SIZE)).all()
    found: dict[tuple[str | None, str], list[Row[str | None, str | None, datetime]]] = {}
    for row in rows[:SAMPLE_SIZE]:
        found.setdefault((row[0], error_class(row[1], row[0])), []).append(row)
    groups = [_incident(step, error, stuck_on) for (step, error), stuck_on in found.items()]
    groups.sort(key=lambda group: (-group.sagas, group.since))
    sagas = Count(min(len(rows), SAMPLE_SIZE), len(rows) > SAMPLE_SIZE)
    return Incidents(sagas, groups[:limit], hidden=len(groups[limit:]))


def _incident(step: str | None, error: str, rows: Sequence[Row[str | None, str | None, datetime]]) -> Incident:
    reasons = {reason for _, reason, _ in rows}
    return Incident(step, error, rows[0][1] or "", len(reasons) == 1, len(rows), min(row[2] for row in rows))


def stuck_sagas(step: str, error: str, limit: int) -> StuckSagas:
    """Return the sagas that are stuck on a step with a class of error, at most ``limit`` of them as rows."""
    columns = select(SagaInstance.id, SagaInstance.stuck_reason, SagaInstance.updated_at)
    stuck = columns.where(SagaInstance.status == SagaStatus.STUCK, SagaInstance.current_step == step)
    here = runtime.current()
    until: datetime | None = here.now()  # for those that were not looked at
    with here.database.reading() as session:
        rows = session.execute(stuck.order_by(SagaInstance.id.desc()).limit(SAMPLE_SIZE + 1)).all()
        found = [row for row in rows[:SAMPLE_SIZE] if error_class(row.stuck_reason, step) == error]
        shown = select(SagaInstance).where(SagaInstance.id.in_([row.id for row in found[:limit]]))
        sagas = session.scalars(shown.order_by(SagaInstance.id.desc())).all()
    if len(rows) <= SAMPLE_SIZE:
        until = max((row.updated_at for row in found), default=None)
    return StuckSagas(StuckGroup(step, error, until), sagas, len(found), len(rows) > SAMPLE_SIZE)


def resumed_together(first: str, last: str, by: str, limit: int) -> ResumedSagas:
    """Return the sagas that an operator resumed as parts of groups: the newest ``limit`` that are stuck, or active.

    ``first`` and ``last`` are ids that were made before and after the operator's acts were recorded. Of the rows only
    the columns that a table of sagas shows are loaded.
    """
    acts = select(OperatorAction.saga_id).where(
        OperatorAction.id.between(first, last),
        OperatorAction.by == by,
        OperatorAction.act == OperatorActionType.RESUME_STUCK,
    )
    resumed = SagaInstance.id.in_(acts)
    counted = select(SagaInstance.status, func.count()).where(resumed).group_by(SagaInstance.status)
    newest_first = select(SagaInstance).options(load_only(*SHOWN_COLUMNS)).order_by(SagaInstance.id.desc()).limit(limit)
    with runtime.current().database.reading() as session:
        numbers = {SagaStatus(status): number for status, number in session.execute(counted)}
        stuck = session.scalars(newest_first.where(resumed, SagaInstance.status == SagaStatus.STUCK)).all()
        active = session.scalars(newest_first.where(resumed, SagaInstance.status.in_(ACTIVE))).all()
    return ResumedSagas(
        number=sum(numbers.values()),
        ended=sum(numbers.get(status, 0) for status in TERMINAL),
        stuck_count=numbers.get(SagaStatus.STUCK, 0),
        active_count=sum(numbers.get(status, 0) for status in ACTIVE),
        stuck=stuck,
        active=active,
    )


def known_steps() -> Sequence[str]:
    """Return the steps that the declared sagas have, in their order; the choreographed one has no others."""
    return list(dict.fromkeys(step for saga in SAGAS.values() for step in saga.step_names))


def find_by_id(identifier: str) -> Sequence[SagaInstance]:
    """Return the sagas that an id leads to, newest first, whatever it is the id of; at most ``MAX_FOUND``.

    It may be a saga's, an order's, a task's, an event's, a payment's or its transaction's, a shipment's or its tracking
    number, or a customer's.
    """
    with runtime.current().database.reading() as session:
        ids = {*_sagas_with(session, identifier)}
        orders = {identifier, *_orders_with(session, identifier)}
        about = select(SagaInstance.id).where(SagaInstance.aggregate_id.in_(orders))
        ids.update(session.scalars(about))
        ids.update(newest(session, Wanted(customer_id=identifier), after=None, limit=MAX_FOUND))
        found = select(SagaInstance).where(SagaInstance.id.in_(ids)).order_by(SagaInstance.id.desc())
        return session.scalars(found.limit(MAX_FOUND)).all()


def _sagas_with(session: Session, identifier: str) -> Iterable[str]:
    by_task = select(SagaStep.saga_id).where(SagaStep.task_id == identifier)
    yield from session.scalars(by_task.limit(MAX_FOUND))
    if own := _as_uuid(identifier):
        yield own


def _orders_with(session: Session, identifier: str) -> Iterable[str]:
    # each service is asked by itself: their tables are never joined
    yield from session.scalars(select(Payment.order_id).where(Payment.transaction_id == identifier).limit(MAX_FOUND))
    tracked = select(Shipment.order_id).where(Shipment.tracking_number == identifier)
    yield from session.scalars(tracked.limit(MAX_FOUND))
    if key := _as_uuid(identifier):
        yield from session.scalars(select(Payment.order_id).where(Payment.id == key))
        yield from session.scalars(select(Shipment.order_id).where(Shipment.id == key))
        yield from session.scalars(select(StoredEvent.aggregate_id).where(StoredEvent.id == key))


def _as_uuid(identifier: str) -> str | None:
    try:
        return str(UUID(identifier))
    except ValueError:
        return None


def stretches(session: Session, wanted: Wanted) -> Sequence[IndexRange]:
    """Return which of the wanted pairs of status and type there are sagas of."""
    possible = UNFINISHED if wanted.step else SagaStatus  # what has ended is at no step
    statuses = [status for status in possible if wanted.status in {None, status}]
    if not statuses:
        return []
    if wanted.saga_type:
        return [(status, wanted.saga_type) for status in statuses]
    # from each type to the next, a look into the index each: also such types are found as no code declares any more
    next_type = select(func.min(SagaInstance.saga_type))
    of_status = union_all(*(select(literal(status, String).label("status")) for status in statuses)).subquery()
    first = next_type.where(SagaInstance.status == of_status.c.status).scalar_subquery()
    found = select(of_status.c.status, first.label("saga_type")).cte("found", recursive=True)
    after = next_type.where(SagaInstance.status == found.c.status, SagaInstance.saga_type > found.c.saga_type)
    found = found.union_all(select(found.c.status, after.scalar_subquery()).where(found.c.saga_type.is_not(null())))
    rows = session.execute(select(found.c.status, found.c.saga_type).where(found.c.saga_type.is_not(null())))
    return [(SagaStatus(status), saga_type) for status, saga_type in rows]


def _newest_of(stretch: IndexRange, wanted: Wanted, before: str, limit: int, on_sqlite: bool) -> FromClause:
    # compared as rows, and sorted by all of it: only an index that begins with these columns can answer that, and no
    # statistics can make PostgreSQL walk down all that is newer instead; SQLite needs to be told less, and takes less
    columns, prefix = ((), ()) if on_sqlite else _narrowest(wanted)
    sorted_by = (*columns, *STRETCH)
    query = select(SagaInstance.id).where(
        tuple_(*sorted_by) > (*prefix, *stretch, FIRST), tuple_(*sorted_by) < (*prefix, *stretch, before)
    )
    if wanted.step:
        query = query.where(SagaInstance.current_step == wanted.step)
    if wanted.customer_id:
        # SQLite, without statistics, would read all of a customer's sagas for those that are at the step
        whose = customer_of.concat("") if wanted.step and on_sqlite else customer_of
        query = query.where(whose == wanted.customer_id)
    return query.order_by(*(column.desc() for column in sorted_by)).limit(limit).subquery()


def _narrowest(wanted: Wanted) -> tuple[Sequence[ColumnElement[Any]], Sequence[str]]:
    """Return what the narrowest index of what is wanted has before a stretch, and what is wanted of that."""
    if wanted.step:
        return (SagaInstance.current_step.expression,), (wanted.step,)
    if wanted.customer_id:
        return (customer_of,), (wanted.customer_id,)
    return (), ()


def _count(status: SagaStatus) -> ColumnElement[int]:
    counted = _of_status(select(literal(1)), status, COUNTED[status])
    return select(func.count()).select_from(counted.subquery()).scalar_subquery()


def _of_status(query: Select[*Columns], status: SagaStatus, most: int) -> Select[*Columns]:
    # one more says that there are more. Sorted, as only the index is: what planners take for common may be rare by now
    return query.where(SagaInstance.status == status).order_by(*STRETCH).limit(most + 1)
