"""Queries of the read side: orders, sagas and the catalogue for pages and APIs.

The tables of different services are never joined: each is read by its own query, and the results are combined here.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import Session

from app import runtime
from app.errors import NotFound
from durable_sagas.definition import Operation, SagaStatus, StepStatus
from durable_sagas.history import history
from durable_sagas.ids import is_uuid
from durable_sagas.models import OperatorAction, SagaInstance, SagaStep, StoredEvent
from tasks.inventory import Book, Category
from tasks.orders import Customer, Order, OrderStatus
from tasks.payments import Payment, PaymentCancelled
from tasks.shipping import Shipment
from workflows.read_side import saga_history, saga_search
from workflows.read_side.saga_history import HistoryEntry

Row = TypeVar("Row")


@dataclass(frozen=True)
class Page(Generic[Row]):
    """A page of a longer list, and whether more rows follow."""

    rows: Sequence[Row]
    more: bool


@dataclass(frozen=True)
class OrderView:
    """An order with its saga, payment and shipment."""

    order: Order
    saga: SagaInstance
    payment: Payment | None
    shipment: Shipment | None


@dataclass(frozen=True)
class SagaView:
    """A saga with its log in chronological order, its order's events, and its operator actions."""

    saga: SagaInstance
    operations: Sequence[HistoryEntry]
    events: Sequence[StoredEvent]
    operator_actions: Sequence[OperatorAction]


def order(order_id: str) -> OrderView:
    """Return one order. Raises NotFound."""
    with runtime.current().database.reading() as session:
        found = session.get(Order, order_id)
        views = with_related(session, [found]) if found else []
    if not views:
        raise NotFound(f"there is no order {order_id}")
    return views[0]


def orders(
    *,
    status: OrderStatus | None = None,
    customer_id: str | None = None,
    after: tuple[datetime, str] | None = None,
    limit: int,
) -> Page[OrderView]:
    """Return a page of orders, newest first; ``after`` is the creation time and id of the previous page's last one."""
    query = select(Order).order_by(Order.created_at.desc(), Order.id.desc())
    if status:
        query = query.where(Order.status == status)
    if customer_id:
        query = query.where(Order.customer_id == customer_id)
    if after:
        query = query.where(tuple_(Order.created_at, Order.id) < after)
    with runtime.current().database.reading() as session:
        page = _page(session, query, limit)
        return Page(with_related(session, page.rows), page.more)


def events_of(order_id: str) -> Sequence[StoredEvent]:
    """Return an order's events in the order in which they were written. Raises NotFound."""
    with runtime.current().database.reading() as session:
        if session.get(Order, order_id) is None:
            raise NotFound(f"there is no order {order_id}")
        return history(session, order_id).events


def saga(saga_id: str) -> SagaView:
    """Return one saga with its log and its order's events. Raises NotFound."""
    with runtime.current().database.reading() as session:
        found = session.get(SagaInstance, saga_id) if is_uuid(saga_id) else None
        if found is None:
            raise NotFound(f"there is no saga {saga_id}")
        rows = session.scalars(select(SagaStep).where(SagaStep.saga_id == saga_id)).all()
        events = history(session, found.aggregate_id).events
        operations = _with_effects(saga_history.operations(found, rows), events)
        operator_actions = session.scalars(
            select(OperatorAction).where(OperatorAction.saga_id == saga_id).order_by(OperatorAction.id)
        ).all()
        return SagaView(found, operations, events, operator_actions)


def _with_effects(operations: Iterable[HistoryEntry], events: Iterable[StoredEvent]) -> list[HistoryEntry]:
    """Mark the compensations that found nothing to compensate.

    A compensation that calls a gateway runs whatever the log says of its action, because the action's response may have
    been lost. Its event shows what it found: every compensation that had an effect recorded one.
    """
    types = {event.id: event.event_type for event in events}
    return [
        replace(logged, nothing_to_undo=True)
        if logged.operation is Operation.COMPENSATION
        and logged.status == StepStatus.COMPLETED
        and types.get(logged.event_id or "") in {None, PaymentCancelled}
        else logged
        for logged in operations
    ]


def sagas(
    *,
    status: SagaStatus | None = None,
    saga_type: str | None = None,
    step: str | None = None,
    customer_id: str | None = None,
    after: str | None = None,
    limit: int,
) -> Page[SagaInstance]:
    """Return a page of sagas, newest first.

    ``step`` is the current step, ``after`` the id of the previous page's last saga.
    """
    filters = saga_search.SagaFilter(status, saga_type, step, customer_id)
    with runtime.current().database.reading() as session:
        ids = saga_search.page(session, filters, after=after, limit=limit + 1)
        rows = session.scalars(_about(SagaInstance, SagaInstance.id, ids).order_by(SagaInstance.id.desc())).all()
    return Page(rows[:limit], len(rows) > limit)


def book(book_id: str) -> Book:
    """Return one book with its stock. Raises NotFound."""
    with runtime.current().database.reading() as session:
        found = session.get(Book, book_id)
    if found is None:
        raise NotFound(f"there is no book {book_id}")
    return found


def books(
    *, category_id: str | None = None, text: str | None = None, after: str | None = None, limit: int
) -> Page[Book]:
    """Return a page of the catalogue by book id.

    ``text`` is a part of a title or of an id, ``after`` the id of the previous page's last book.
    """
    query = select(Book).order_by(Book.book_id)
    if text:
        query = query.where(Book.title.icontains(text, autoescape=True) | Book.book_id.icontains(text, autoescape=True))
    if category_id:
        query = query.where(Book.category_id == category_id)
    if after:
        query = query.where(Book.book_id > after)
    with runtime.current().database.reading() as session:
        return _page(session, query, limit)


def books_named(book_ids: Iterable[str]) -> dict[str, Book]:
    """Return the existing books among these ids, by id."""
    with runtime.current().database.reading() as session:
        found = session.scalars(_about(Book, Book.book_id, list(book_ids)))
        return {book.book_id: book for book in found}


def categories_named(category_ids: Iterable[str]) -> Mapping[str, Category]:
    """Return the existing categories among these ids, by id."""
    with runtime.current().database.reading() as session:
        found = session.scalars(_about(Category, Category.id, list(set(category_ids))))
        return {category.id: category for category in found}


def orders_named(order_ids: Sequence[str]) -> Mapping[str, OrderView]:
    """Return the existing orders among these ids, by id."""
    with runtime.current().database.reading() as session:
        found = session.scalars(_about(Order, Order.id, order_ids)).all()
        return {view.order.id: view for view in with_related(session, found)}


def operations_of_each(sagas: Sequence[SagaInstance]) -> Mapping[str, Sequence[HistoryEntry]]:
    """Return each saga's operations by saga id, in chronological order."""
    logged: dict[str, list[SagaStep]] = defaultdict(list)
    with runtime.current().database.reading() as session:
        for row in session.scalars(_about(SagaStep, SagaStep.saga_id, [saga.id for saga in sagas])):
            logged[row.saga_id].append(row)
    return {saga.id: saga_history.operations(saga, logged[saga.id]) for saga in sagas}


def events_of_each(order_ids: Sequence[str]) -> Mapping[str, Sequence[StoredEvent]]:
    """Return each order's events by order id, in the order in which they were written."""
    events: dict[str, list[StoredEvent]] = {order_id: [] for order_id in order_ids}
    query = _about(StoredEvent, StoredEvent.aggregate_id, order_ids).order_by(StoredEvent.sequence)
    with runtime.current().database.reading() as session:
        for event in session.scalars(query):
            events[event.aggregate_id].append(event)
    return events


def categories(*, after: str | None = None, limit: int) -> Page[Category]:
    """Return a page of the categories by id; ``after`` is the id of the previous page's last category."""
    query = select(Category).order_by(Category.id)
    if after:
        query = query.where(Category.id > after)
    with runtime.current().database.reading() as session:
        return _page(session, query, limit)


def customers(*, limit: int) -> Page[Customer]:
    """Return the first customers by id."""
    with runtime.current().database.reading() as session:
        return _page(session, select(Customer).order_by(Customer.id), limit)


def _page(session: Session, query: Select[Row], limit: int) -> Page[Row]:
    # one extra row shows whether more follow, without counting
    rows = session.scalars(query.limit(limit + 1)).all()
    return Page(rows[:limit], len(rows) > limit)


def with_related(session: Session, found: Sequence[Order]) -> list[OrderView]:
    """Return orders with their sagas, payments and shipments; each table is read once."""
    ids = [order.id for order in found]
    sagas = {row.aggregate_id: row for row in session.scalars(_about(SagaInstance, SagaInstance.aggregate_id, ids))}
    payments = {row.order_id: row for row in session.scalars(_about(Payment, Payment.order_id, ids))}
    shipments = {row.order_id: row for row in session.scalars(_about(Shipment, Shipment.order_id, ids))}
    return [
        OrderView(order, sagas[order.id], payments.get(order.id), shipments.get(order.id))
        for order in found
        if order.id in sagas  # otherwise it was pruned between these statements
    ]


def _about(table: type[Row], key: Any, ids: Sequence[str]) -> Select[Row]:
    return select(table).where(key.in_(ids))
