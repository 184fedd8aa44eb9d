"""Serialize a saga in the formats of the seeds' short paths: seed 001's states, and the flat events of 002 and 004."""

from collections.abc import Mapping, Sequence
from typing import Any

from durable_sagas.definition import COMPLETED, FAILED, Operation, StepStatus
from durable_sagas.models import StoredEvent
from tasks.inventory import StockUnavailable
from tasks.orders import OrderCreated
from web.api.responses import FlatEventReply, FlatEventsReply, StateReply
from workflows.read_side.queries import SagaView

STATES = {
    ("create_order", Operation.ACTION): "ORDER_CREATED",
    ("process_payment", Operation.ACTION): "PAYMENT_PROCESSED",
    ("reserve_stock", Operation.ACTION): "STOCK_RESERVED",
    ("arrange_shipping", Operation.ACTION): "SHIPPED",
    ("arrange_shipping", Operation.COMPENSATION): "SHIPMENT_CANCELLED",
    ("reserve_stock", Operation.COMPENSATION): "STOCK_RELEASED",
    ("process_payment", Operation.COMPENSATION): "PAYMENT_CANCELLED",
    ("create_order", Operation.COMPENSATION): "ORDER_CANCELLED",
}
"""The state that seed 001's saga reaches with each operation; STARTED comes before them, COMPLETED or FAILED after."""

TOOK_EFFECT = frozenset({StepStatus.COMPLETED, StepStatus.BY_HAND})


def states(view: SagaView) -> tuple[StateReply, ...]:
    """Return the states of seed 001 that a saga has reached, in order."""
    reached = sorted(
        (operation.finished_at, STATES[operation.key])
        for operation in view.operations
        if operation.key in STATES and operation.status in TOOK_EFFECT and operation.finished_at
    )
    started, *later = map(StateReply.model_validate, view.saga.state_history)
    ended = (state for state in later if state.state in {COMPLETED, FAILED})
    return started, *(StateReply(state=state, at=at) for at, state in reached), *ended


def flat_events(order_id: str, events: Sequence[StoredEvent]) -> FlatEventsReply:
    """Return an order's events, each with its payload's fields next to its type."""
    created: Mapping[str, Any] = next((event.payload for event in events if event.event_type == OrderCreated), {})
    return FlatEventsReply(order_id=order_id, events=tuple(_flat(event, created) for event in events))


def _flat(event: StoredEvent, created: Mapping[str, Any]) -> FlatEventReply:
    payload = event.payload
    # a StockUnavailable event lists no books: it concerns all items of the order
    lines = (
        created.get("items", ())
        if event.event_type == StockUnavailable
        else payload.get("stock", payload.get("items", ()))
    )
    fields = {name: payload[name] for name in ("customer_id", "amount", "total_amount", "reason") if payload.get(name)}
    if "total_amount" in fields:
        fields["amount"] = fields["total_amount"]
    items = [{"book_id": one["book_id"], "product_id": one["book_id"], "quantity": one["quantity"]} for one in lines]
    books = items[0] if len(items) == 1 else {"items": items or None}
    return FlatEventReply.of(event, order_id=event.aggregate_id, **fields, **books)
