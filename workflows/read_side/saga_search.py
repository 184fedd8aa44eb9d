"""Search and count sagas at a cost independent of their number: by filters, by any id, and grouped by stuck reason.

Sagas of one status and type are adjacent in an index, ordered by id and therefore by age. A filter selects some of
these index ranges, and the newest sagas of each are merged. So a page reads a few index entries wherever the matches
are among a million sagas.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
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
from sqlalchemy.orm import Session, defer
from sqlalchemy.sql.expression import FromClause

from app import runtime
from durable_sagas.definition import ACTIVE, TERMINAL, OperatorActionType, SagaStatus
from durable_sagas.models import OperatorAction, SagaInstance, SagaStep, StoredEvent
from durable_sagas.stuck_groups import StuckGroup, error_class
from tasks.payments import Payment
from tasks.shipping import Shipment
from workflows.orders import SAGAS

FIRST, LAST = str(UUID(int=0)), str(UUID(int=2**128 - 1))
"""The lowest and the highest possible id."""

UNFINISHED = tuple(status for status in SagaStatus if status not in TERMINAL)
COUNTED = {status: 10_000 if status in TERMINAL else 100_000 for status in SagaStatus}
"""Up to how many sagas of a status are counted; lower for the terminal ones, which accumulate."""
SAMPLE_SIZE = 5_000
"""How many stuck sagas, at most, are read to be grouped."""
MAX_FOUND = 50

Columns = TypeVarTuple("Columns")
IndexRange = tuple[SagaStatus, str]

customer_of: ColumnElement[str] = literal_column("(payload ->> 'customer_id')", String)
"""The customer of a saga's order. The engine has no such column, but an order's saga has it in its payload."""

_AT_A_STEP = text("current_step IS NOT NULL")
INDEX_COLUMNS = (SagaInstance.status, SagaInstance.saga_type, SagaInstance.id)
"""The columns, in order, of the index that the search scans."""

NOT_SHOWN = (SagaInstance.steps, SagaInstance.outline, SagaInstance.state_history)
"""The large columns that a table of sagas does not display."""

# the last column allows the other filter to be checked in the index, without reading the row
Index("ix_saga_instances_customer", customer_of, *INDEX_COLUMNS, SagaInstance.current_step)
Index(
    "ix_saga_instances_current_step",
    SagaInstance.current_step,
    *INDEX_COLUMNS,
    customer_of,
    postgresql_where=_AT_A_STEP,
    sqlite_where=_AT_A_STEP,
)


@dataclass(frozen=True)
class SagaFilter:
    """Filters on sagas, None for no filter; ``step`` is the current step."""

    status: SagaStatus | None = None
    saga_type: str | None = None
    step: str | None = None
    customer_id: str | None = None


@dataclass(frozen=True)
class Count:
    """A capped count: exactly ``number``, or, if ``more``, a greater one."""

    number: int
    more: bool = False


@dataclass(frozen=True)
class Incident:
    """A group of sagas stuck on the same step with the same class of error, the first of them since ``since``."""

    step: str | None
    error: str
    reason: str
    """The stuck reason of one of them; ``same_reason`` is whether all have the same."""
    same_reason: bool
    sagas: int
    since: datetime


@dataclass(frozen=True)
class StuckSagas:
    """The newest sagas of a group of stuck sagas, and how many there are."""

    group: StuckGroup
    sagas: Sequence[SagaInstance]
    number: int
    more: bool
    """Whether more sagas are stuck on this step than were read (``SAMPLE_SIZE``)."""


@dataclass(frozen=True)
class ResumedSagas:
    """The present state of sagas that were resumed as a group: counts, and the newest stuck and active ones."""

    number: int
    ended: int
    stuck_count: int
    active_count: int
    stuck: Sequence[SagaInstance]
    active: Sequence[SagaInstance]


@dataclass(frozen=True)
class Incidents:
    """The number of stuck sagas, up to ``SAMPLE_SIZE``, and their groups, largest first."""

    sagas: Count
    groups: Sequence[Incident]
    hidden: int
    """The number of groups beyond the limit, which are not in ``groups``."""


def page(session: Session, filters: SagaFilter, *, after: str | None, limit: int) -> Sequence[str]:
    """Return the ids of the newest sagas that match; ``after`` is the last id of the previous page."""
    # saga ids are UUIDs of version 7, so they are ordered by creation time
    before = after or LAST
    if filters == SagaFilter():
        unfiltered = select(SagaInstance.id).where(SagaInstance.id < before)
        return session.scalars(unfiltered.order_by(SagaInstance.id.desc()).limit(limit)).all()
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    possible = UNFINISHED if filters.step else SagaStatus  # a terminal saga has no current step
    statuses = [status for status in possible if filters.status in {None, status}]
    if filters.saga_type:
        ranges: Sequence[IndexRange] = [(status, filters.saga_type) for status in statuses]
    else:
        ranges = index_ranges(session, statuses) if statuses else []
    parts = [_page_of_range(index_range, filters, before, limit, on_sqlite) for index_range in ranges]
    if not parts:
        return []
    merged = union_all(*(select(part.c.id) for part in parts)).subquery()
    return session.scalars(select(merged.c.id).order_by(merged.c.id.desc()).limit(limit)).all()


def counts() -> Mapping[SagaStatus, Count]:
    """Return the number of sagas of each status, up to the limits of ``COUNTED``."""
    with runtime.current().database.reading() as session:
        counted = session.execute(select(*(_count(status).label(status) for status in SagaStatus))).one()._mapping
    return {status: Count(min(counted[status], limit), counted[status] > limit) for status, limit in COUNTED.items()}


def incidents(limit: int) -> Incidents:
    """Return the groups of stuck sagas, at most ``limit`` of them."""
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
    """Return the group of sagas stuck on a step with a class of error, with at most ``limit`` of its sagas."""
    columns = select(SagaInstance.id, SagaInstance.stuck_reason, SagaInstance.updated_at)
    stuck = columns.where(SagaInstance.status == SagaStatus.STUCK, SagaInstance.current_step == step)
    current = runtime.current()
    until: datetime | None = current.now()  # includes the sagas beyond SAMPLE_SIZE, which are not read
    with current.database.reading() as session:
        rows = session.execute(stuck.order_by(SagaInstance.id.desc()).limit(SAMPLE_SIZE + 1)).all()
        found = [row for row in rows[:SAMPLE_SIZE] if error_class(row.stuck_reason, step) == error]
        shown = select(SagaInstance).where(SagaInstance.id.in_([row.id for row in found[:limit]]))
        sagas = session.scalars(shown.order_by(SagaInstance.id.desc())).all()
    if len(rows) <= SAMPLE_SIZE:
        until = max((row.updated_at for row in found), default=None)
    return StuckSagas(StuckGroup(step, error, until), sagas, len(found), len(rows) > SAMPLE_SIZE)


def resumed_together(first: str, last: str, by: str, limit: int) -> ResumedSagas:
    """Return the sagas that an operator resumed as a group, with the newest ``limit`` stuck and active ones.

    ``first`` and ``last`` are ids generated before and after the operator's actions were recorded.
    """
    acts = select(OperatorAction.saga_id).where(
        OperatorAction.id.between(first, last),
        OperatorAction.by == by,
        OperatorAction.act == OperatorActionType.RESUME_STUCK,
    )
    resumed = SagaInstance.id.in_(acts)
    counted = select(SagaInstance.status, func.count()).where(resumed).group_by(SagaInstance.status)
    newest_first = select(SagaInstance).options(*map(defer, NOT_SHOWN)).order_by(SagaInstance.id.desc()).limit(limit)
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
    """Return the steps of the declared orchestrated sagas, in order; the choreographed saga has no others."""
    return list(dict.fromkeys(step for saga in SAGAS.values() for step in saga.step_names))


def find_by_id(identifier: str) -> Sequence[SagaInstance]:
    """Return the sagas that belong to an id of any kind, newest first; at most ``MAX_FOUND``.

    It may be the id of a saga, order, task, event, payment, payment transaction, shipment or customer, or a tracking
    number.
    """
    with runtime.current().database.reading() as session:
        about = select(SagaInstance.id).where(SagaInstance.aggregate_id.in_(_orders_with(session, identifier)))
        by_task = select(SagaStep.saga_id).where(SagaStep.task_id == identifier).limit(MAX_FOUND)
        ids = {
            *session.scalars(about),
            *session.scalars(by_task),
            *page(session, SagaFilter(customer_id=identifier), after=None, limit=MAX_FOUND),
            _as_uuid(identifier),
        }
        found = select(SagaInstance).where(SagaInstance.id.in_(ids - {None})).order_by(SagaInstance.id.desc())
        return session.scalars(found.limit(MAX_FOUND)).all()


def _orders_with(session: Session, identifier: str) -> Collection[str]:
    # the tables of different services are never joined
    queries = [
        select(Payment.order_id).where(Payment.transaction_id == identifier),
        select(Shipment.order_id).where(Shipment.tracking_number == identifier),
    ]
    if key := _as_uuid(identifier):
        queries.append(select(Payment.order_id).where(Payment.id == key))
        queries.append(select(Shipment.order_id).where(Shipment.id == key))
        queries.append(select(StoredEvent.aggregate_id).where(StoredEvent.id == key))
    return {identifier, *(order_id for query in queries for order_id in session.scalars(query.limit(MAX_FOUND)))}


def _as_uuid(identifier: str) -> str | None:
    try:
        return str(UUID(identifier))
    except ValueError:
        return None


def index_ranges(session: Session, statuses: Iterable[SagaStatus]) -> Sequence[IndexRange]:
    """Return the pairs of one of these statuses and a type of which there are sagas."""
    # skip from each type to the next with one index lookup; this also finds types that no code declares any more
    next_type = select(func.min(SagaInstance.saga_type))
    of_status = union_all(*(select(literal(status, String).label("status")) for status in statuses)).subquery()
    first = next_type.where(SagaInstance.status == of_status.c.status).scalar_subquery()
    found = select(of_status.c.status, first.label("saga_type")).cte("found", recursive=True)
    after = next_type.where(SagaInstance.status == found.c.status, SagaInstance.saga_type > found.c.saga_type)
    found = found.union_all(select(found.c.status, after.scalar_subquery()).where(found.c.saga_type.is_not(null())))
    rows = session.execute(select(found.c.status, found.c.saga_type).where(found.c.saga_type.is_not(null())))
    return [(SagaStatus(status), saga_type) for status, saga_type in rows]


def _page_of_range(
    index_range: IndexRange, filters: SagaFilter, before: str, limit: int, on_sqlite: bool
) -> FromClause:
    # Row comparison, sorted by all of its columns: only an index with these leading columns can serve it, so no
    # statistics can make PostgreSQL scan all newer ids instead. SQLite needs no such prefix to choose the right index.
    columns, prefix = ((), ()) if on_sqlite else _index_prefix(filters)
    sorted_by = (*columns, *INDEX_COLUMNS)
    query = select(SagaInstance.id).where(
        tuple_(*sorted_by) > (*prefix, *index_range, FIRST), tuple_(*sorted_by) < (*prefix, *index_range, before)
    )
    if filters.step:
        query = query.where(SagaInstance.current_step == filters.step)
    if filters.customer_id:
        # without statistics SQLite would read all of a customer's sagas; concat hides the index on the customer from it
        customer = customer_of.concat("") if filters.step and on_sqlite else customer_of
        query = query.where(customer == filters.customer_id)
    return query.order_by(*(column.desc() for column in sorted_by)).limit(limit).subquery()


def _index_prefix(filters: SagaFilter) -> tuple[Sequence[ColumnElement[Any]], Sequence[str]]:
    """Return the columns before ``INDEX_COLUMNS`` in the most selective index for the filters, and their values."""
    if filters.step:
        return (SagaInstance.current_step.expression,), (filters.step,)
    if filters.customer_id:
        return (customer_of,), (filters.customer_id,)
    return (), ()


def _count(status: SagaStatus) -> ColumnElement[int]:
    counted = _of_status(select(literal(1)), status, COUNTED[status])
    return select(func.count()).select_from(counted.subquery()).scalar_subquery()


def _of_status(query: Select[*Columns], status: SagaStatus, limit: int) -> Select[*Columns]:
    # One extra row shows whether there are more. Sorted so that the index is used: by stale statistics the planner may
    # take a status for common that is rare by now, and scan the table.
    return query.where(SagaInstance.status == status).order_by(*INDEX_COLUMNS).limit(limit + 1)
