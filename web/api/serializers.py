"""Convert results of the read side to response models."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypedDict

from app.amounts import number
from app.observability import tracing
from durable_sagas.definition import CancelDecision, StepStatus
from durable_sagas.models import SagaInstance, StoredEvent
from durable_sagas.operations import Resumed
from tasks.inventory import Book
from tasks.payments import Payment
from tasks.shipping import Shipment
from web import cursors
from web.api import responses, seed_forms
from workflows.orders import PlacedOrder
from workflows.read_side.queries import OrderView, Page, SagaView
from workflows.read_side.saga_history import HistoryEntry

DONE = frozenset({StepStatus.COMPLETED, StepStatus.SKIPPED, StepStatus.BY_HAND})


def started(placed: PlacedOrder) -> responses.StartedReply:
    """Return the response to an accepted order; a repeated request gets the same, however far its saga has come."""
    return responses.StartedReply(
        saga_id=placed.saga_id, order_id=placed.order_id, status="pending", message="Order creation started"
    )


class Cancellation(TypedDict):
    """The fields that report a request to cancel in every response about a saga; None if there was none."""

    cancel_requested_at: datetime | None
    cancel_decision: CancelDecision | None
    cancel_reason: str | None


def cancellation(saga: SagaInstance) -> Cancellation:
    """Return when a saga's cancellation was requested, its decision, and why."""
    return Cancellation(
        cancel_requested_at=saga.cancel_requested_at,
        cancel_decision=saga.cancel_decision,
        cancel_reason=saga.cancel_reason,
    )


def order(view: OrderView) -> responses.OrderReply:
    """Return an order."""
    placed, saga = view.order, view.saga
    return responses.OrderReply(
        order_id=placed.id,
        customer_id=placed.customer_id,
        status=placed.status,
        items=tuple(
            responses.ItemReply(
                book_id=item.book_id, title=item.title, quantity=item.quantity, unit_price=number(item.unit_price)
            )
            for item in placed.items
        ),
        total_amount=number(placed.total_amount),
        payment_method=placed.payment_method,
        shipping_address=placed.shipping_address,
        saga_id=saga.id,
        saga_type=saga.saga_type,
        saga_status=saga.status,
        saga_state=saga.state,
        **cancellation(saga),
        payment=_payment(view.payment) if view.payment else None,
        shipment=_shipment(view.shipment) if view.shipment else None,
        created_at=placed.created_at,
        updated_at=placed.updated_at,
    )


def orders(page: Page[OrderView]) -> responses.OrdersReply:
    """Return a page of orders."""
    last = page.rows[-1].order if page.more else None
    return responses.OrdersReply(
        orders=tuple(map(order, page.rows)),
        next_cursor=cursors.encode(last.created_at.isoformat(), last.id) if last else None,
    )


def event(stored: StoredEvent) -> responses.EventReply:
    """Return an event."""
    return responses.EventReply(
        sequence=stored.sequence,
        event_type=stored.event_type,
        aggregate_id=stored.aggregate_id,
        payload=stored.payload,
        timestamp=stored.timestamp,
    )


def cancelled(saga: SagaInstance) -> responses.CancelReply:
    """Return the response to a requested cancellation."""
    return responses.CancelReply(
        order_id=saga.aggregate_id,
        saga_id=saga.id,
        status=saga.status,
        **cancellation(saga),
    )


def cancel_requested(saga: SagaInstance) -> responses.CancelRequestedReply:
    """Return the response to a requested cancellation of a saga."""
    return responses.CancelRequestedReply(
        saga_id=saga.id,
        status=saga.status,
        **cancellation(saga),
    )


def accepted(saga: SagaInstance) -> responses.AskedReply:
    """Return the response to an accepted operation on a saga."""
    return responses.AskedReply(saga_id=saga.id, status=saga.status)


def resumed(done: Resumed) -> responses.ResumedReply:
    """Return the response to a bulk resume."""
    return responses.ResumedReply(
        resumed=tuple(done.resumed),
        refused=tuple(responses.RefusedReply(saga_id=saga_id, reason=why) for saga_id, why in done.refused.items()),
        next_cursor=cursors.encode(done.next_after) if done.next_after else None,
    )


def saga(row: SagaInstance) -> responses.SagaReply:
    """Return a saga."""
    return responses.SagaReply(
        saga_id=row.id,
        saga_type=row.saga_type,
        order_id=row.aggregate_id,
        status=row.status,
        state=row.state,
        current_step=row.current_step,
        state_history=_states(row),
        context=context(row.payload),
        error=row.failure_reason,
        trace_id=tracing.trace_id_of(row.traceparent),
        **cancellation(row),
        deadline_at=row.deadline_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def saga_history(view: SagaView) -> responses.HistoryReply:
    """Return a saga's history, in seed 003's form."""
    return responses.HistoryReply(
        saga_id=view.saga.id,
        history=tuple(map(_step, view.operations)),
        acts=tuple(map(responses.ActReply.model_validate, view.operator_actions)),
    )


def short_status(view: SagaView) -> responses.SagaStatusReply:
    """Return a saga's status, in seed 001's form."""
    states = seed_forms.states(view)
    shown = saga(view.saga).model_copy(update={"state": states[-1].state, "state_history": states})
    return responses.SagaStatusReply.model_validate(shown)


def short_history(view: SagaView) -> responses.SagaHistoryReply:
    """Return a saga's history, in seed 001's form."""
    return responses.SagaHistoryReply(
        saga_id=view.saga.id,
        order_id=view.saga.aggregate_id,
        states=seed_forms.states(view),
        steps=tuple(_step_answer(view.saga.id, logged) for logged in view.operations),
    )


def book(row: Book) -> responses.BookReply:
    """Return a book."""
    return responses.BookReply(
        book_id=row.book_id,
        title=row.title,
        description=row.description,
        category_id=row.category_id,
        price=number(row.price),
        received_stock=row.received_stock,
        available_stock=row.available_stock,
        reserved_stock=row.reserved_stock,
    )


def _payment(row: Payment) -> responses.PaymentReply:
    return responses.PaymentReply(status=row.status, amount=number(row.amount), transaction_id=row.transaction_id)


def _shipment(row: Shipment) -> responses.ShipmentReply:
    return responses.ShipmentReply(status=row.status, tracking_number=row.tracking_number)


def context(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return a saga's context, with each item's fields under seed 003's names as well."""
    items = [{**item, "product_id": item["book_id"], "price": item["unit_price"]} for item in payload.get("items", ())]
    return {**payload, "items": items}


def _states(row: SagaInstance) -> tuple[responses.StateReply, ...]:
    return tuple(responses.StateReply.model_validate(reached) for reached in row.state_history)


def _step(logged: HistoryEntry) -> responses.StepReply:
    ended = {"completed_at": logged.finished_at} if logged.finished_at else {}
    return responses.StepReply(
        step_name=logged.step,
        operation=logged.operation,
        status=logged.status,
        started_at=logged.started_at,
        retry_attempt=max(logged.attempts - 1, 0),
        attempts=logged.attempts,
        error=logged.error,
        task_id=logged.task_id,
        failures=tuple(responses.FailureReply.model_validate(failure) for failure in logged.failures),
        result=logged.result,
        done_by=logged.done_by,
        note=logged.note,
        **ended,
    )


def _step_answer(saga_id: str, logged: HistoryEntry) -> responses.StepAnswerReply:
    step = _step(logged)
    ended = {"completed_at": step.completed_at} if step.completed_at else {}
    return responses.StepAnswerReply(
        success=step.status in DONE,
        saga_id=saga_id,
        step_id=step.step_name,
        result=step.result,
        error=step.error,
        operation=step.operation,
        status=step.status,
        started_at=step.started_at,
        retry_attempt=step.retry_attempt,
        **ended,
    )
