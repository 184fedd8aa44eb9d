"""Batch queries of the read side: load what belongs to the rows of a page, one statement per table."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import select

from app import runtime
from durable_sagas.models import SagaInstance, SagaStep, StoredEvent
from tasks.inventory import Category
from tasks.orders import Order
from workflows.read_side import saga_history
from workflows.read_side.queries import OrderView, with_related
from workflows.read_side.saga_history import HistoryEntry


def orders(order_ids: Iterable[str]) -> Mapping[str, OrderView]:
    """Return the existing orders among these ids."""
    with runtime.current().database.reading() as session:
        found = session.scalars(select(Order).where(Order.id.in_(order_ids))).all()
        return {view.order.id: view for view in with_related(session, found)}


def operations(sagas: Sequence[SagaInstance]) -> Mapping[str, Sequence[HistoryEntry]]:
    """Return each saga's operations by saga id, in chronological order."""
    logged: dict[str, list[SagaStep]] = defaultdict(list)
    with runtime.current().database.reading() as session:
        for row in session.scalars(select(SagaStep).where(SagaStep.saga_id.in_([saga.id for saga in sagas]))):
            logged[row.saga_id].append(row)
    return {saga.id: saga_history.operations(saga, logged[saga.id]) for saga in sagas}


def events(order_ids: Sequence[str]) -> Mapping[str, Sequence[StoredEvent]]:
    """Return each order's events by order id, in the order in which they were written."""
    query = select(StoredEvent).where(StoredEvent.aggregate_id.in_(order_ids)).order_by(StoredEvent.sequence)
    by_order: dict[str, list[StoredEvent]] = {order_id: [] for order_id in order_ids}
    with runtime.current().database.reading() as session:
        for event in session.scalars(query):
            by_order[event.aggregate_id].append(event)
    return by_order


def categories(category_ids: Iterable[str]) -> Mapping[str, Category]:
    """Return the existing categories among these ids."""
    with runtime.current().database.reading() as session:
        found = session.scalars(select(Category).where(Category.id.in_(set(category_ids))))
        return {category.id: category for category in found}
