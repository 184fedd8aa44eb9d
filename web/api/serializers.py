"""Convert results of the read side to response models."""

from collections.abc import Mapping
from typing import Any

from app.observability import tracing
from durable_sagas.definition import StepStatus
from durable_sagas.models import SagaInstance
from durable_sagas.operations import Resumed
from web import cursors
from web.api import responses, seed_forms
from workflows.orders import PlacedOrder
from workflows.read_side.queries import OrderView, Page, SagaView
from workflows.read_side.saga_history import HistoryEntry

DONE = frozenset({StepStatus.COMPLETED, StepStatus.SKIPPED, StepStatus.BY_HAND})


def started(placed: PlacedOrder) -> responses.StartedReply:
    """Return the response to an accepted order; a repeated request gets the same, however far its saga has come."""
    return responses.StartedReply.of(placed, status="pending", message="Order creation started")


def order(view: OrderView) -> responses.OrderReply:
    """Return an order."""
    placed, saga = view.order, view.saga
    return responses.OrderReply.of(
        placed, saga, view, order_id=placed.id, saga_id=saga.id, saga_status=saga.status, saga_state=saga.state
    )


def orders(page: Page[OrderView]) -> responses.OrdersReply:
    """Return a page of orders."""
    return responses.OrdersReply(orders=tuple(map(order, page.rows)), next_cursor=cursors.next_cursor(page))


def cancelled(saga: SagaInstance) -> responses.CancelReply:
    """Return the response to a requested cancellation."""
    return responses.CancelReply.of(saga, order_id=saga.aggregate_id, saga_id=saga.id)


def resumed(done: Resumed) -> responses.ResumedReply:
    """Return the response to a bulk resume."""
    return responses.ResumedReply(
        resumed=tuple(done.resumed),
        refused=tuple(responses.RefusedReply(saga_id=saga_id, reason=why) for saga_id, why in done.refused.items()),
        next_cursor=cursors.encode(done.next_after) if done.next_after else None,
    )


def saga(row: SagaInstance) -> responses.SagaReply:
    """Return a saga; its context has each item's fields under seed 003's names as well."""
    payload: Mapping[str, Any] = row.payload
    items = [{**item, "product_id": item["book_id"], "price": item["unit_price"]} for item in payload.get("items", ())]
    return responses.SagaReply.of(
        row,
        saga_id=row.id,
        order_id=row.aggregate_id,
        context={**payload, "items": items},
        error=row.failure_reason,
        trace_id=tracing.trace_id_of(row.traceparent),
    )


def step(logged: HistoryEntry) -> responses.StepReply:
    """Return one operation of one step."""
    retries = max(logged.attempts - 1, 0)
    return responses.StepReply.of(logged, step_name=logged.step, completed_at=logged.finished_at, retry_attempt=retries)


def saga_history(view: SagaView) -> responses.HistoryReply:
    """Return a saga's history, in seed 003's form."""
    return responses.HistoryReply.of(
        saga_id=view.saga.id, history=map(step, view.operations), acts=view.operator_actions
    )


def short_status(view: SagaView) -> responses.SagaStatusReply:
    """Return a saga's status, in seed 001's form."""
    states = seed_forms.states(view)
    return responses.SagaStatusReply.of(saga(view.saga), state=states[-1].state, state_history=states)


def short_history(view: SagaView) -> responses.SagaHistoryReply:
    """Return a saga's history, in seed 001's form."""
    saga_id = view.saga.id
    steps = [
        responses.StepAnswerReply.of(logged, saga_id=saga_id, step_id=logged.step_name, success=logged.status in DONE)
        for logged in map(step, view.operations)
    ]
    return responses.SagaHistoryReply.of(
        saga_id=saga_id, order_id=view.saga.aggregate_id, states=seed_forms.states(view), steps=steps
    )
