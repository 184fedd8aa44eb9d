"""From what the read side returns to what clients and people see."""

from collections.abc import Mapping
from typing import Any

from app import tracing
from app.events import StoredEvent
from app.messages import number
from app.saga.definition import StepStatus
from app.saga.models import SagaInstance
from app.saga.operations import Resumed
from app.saga.timeline import LoggedOperation
from tasks.inventory import Book
from tasks.payments import Payment
from tasks.shipping import Shipment
from web import cursors, replies, seed_forms
from workflows.ordering import Placed
from workflows.queries import OrderView, Page, SagaView

DONE = frozenset({StepStatus.COMPLETED, StepStatus.SKIPPED, StepStatus.BY_HAND})


def started(placed: Placed) -> replies.StartedReply:
    """Return the answer to an accepted order; the same for a repeated request, however far the order is by now."""
    return replies.StartedReply(
        saga_id=placed.saga_id, order_id=placed.order_id, status="pending", message="Order creation started"
    )


def order(view: OrderView) -> replies.OrderReply:
    """Return an order."""
    placed, saga = view.order, view.saga
    return replies.OrderReply(
        order_id=placed.id,
        customer_id=placed.customer_id,
        status=placed.status,
        items=tuple(
            replies.ItemReply(
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
        cancel_requested_at=saga.cancel_requested_at,
        cancel_decision=saga.cancel_decision,
        cancel_reason=saga.cancel_reason,
        payment=_payment(view.payment) if view.payment else None,
        shipment=_shipment(view.shipment) if view.shipment else None,
        created_at=placed.created_at,
        updated_at=placed.updated_at,
    )


def orders(page: Page[OrderView]) -> replies.OrdersReply:
    """Return a page of orders."""
    last = page.rows[-1].order if page.more else None
    return replies.OrdersReply(
        orders=tuple(map(order, page.rows)),
        next_cursor=cursors.encode(last.created_at.isoformat(), last.id) if last else None,
    )


def event(stored: StoredEvent) -> replies.EventReply:
    """Return an event."""
    return replies.EventReply(
        sequence=stored.sequence,
        event_type=stored.event_type,
        aggregate_id=stored.aggregate_id,
        payload=stored.payload,
        timestamp=stored.timestamp,
    )


def cancelled(saga: SagaInstance) -> replies.CancelReply:
    """Return the answer to a requested cancellation."""
    return replies.CancelReply(
        order_id=saga.aggregate_id,
        saga_id=saga.id,
        status=saga.status,
        cancel_requested_at=saga.cancel_requested_at,
        cancel_decision=saga.cancel_decision,
        cancel_reason=saga.cancel_reason,
    )


def cancel_requested(saga: SagaInstance) -> replies.CancelRequestedReply:
    """Return the answer to a requested cancellation of a saga."""
    return replies.CancelRequestedReply(
        saga_id=saga.id,
        status=saga.status,
        cancel_requested_at=saga.cancel_requested_at,
        cancel_decision=saga.cancel_decision,
        cancel_reason=saga.cancel_reason,
    )


def asked(saga: SagaInstance) -> replies.AskedReply:
    """Return the answer to an accepted request to a saga."""
    return replies.AskedReply(saga_id=saga.id, status=saga.status)


def resumed(done: Resumed) -> replies.ResumedReply:
    """Return the answer to a bulk resume."""
    return replies.ResumedReply(
        resumed=tuple(done.resumed),
        refused=tuple(replies.RefusedReply(saga_id=saga_id, reason=why) for saga_id, why in done.refused.items()),
        next_cursor=cursors.encode(done.next_after) if done.next_after else None,
    )


def saga(row: SagaInstance) -> replies.SagaReply:
    """Return a saga."""
    return replies.SagaReply(
        saga_id=row.id,
        saga_type=row.saga_type,
        order_id=row.aggregate_id,
        status=row.status,
        state=row.state,
        current_step=row.current_step,
        state_history=_states(row),
        context=context(row.payload),
        error=row.trouble,
        trace_id=tracing.trace_id_of(row.traceparent),
        cancel_requested_at=row.cancel_requested_at,
        cancel_decision=row.cancel_decision,
        cancel_reason=row.cancel_reason,
        deadline_at=row.deadline_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def saga_history(view: SagaView) -> replies.HistoryReply:
    """Return what a saga did, in seed 003's form."""
    return replies.HistoryReply(
        saga_id=view.saga.id,
        history=tuple(map(_step, view.operations)),
        acts=tuple(map(replies.ActReply.model_validate, view.acts)),
    )


def short_status(view: SagaView) -> replies.SagaStatusReply:
    """Return where a saga stands, in seed 001's form."""
    states = seed_forms.states(view)
    shown = saga(view.saga).model_copy(update={"state": states[-1].state, "state_history": states})
    return replies.SagaStatusReply.model_validate(shown)


def short_history(view: SagaView) -> replies.SagaHistoryReply:
    """Return what a saga went through, in seed 001's form."""
    return replies.SagaHistoryReply(
        saga_id=view.saga.id,
        order_id=view.saga.aggregate_id,
        states=seed_forms.states(view),
        steps=tuple(_step_answer(view.saga.id, logged) for logged in view.operations),
    )


def book(row: Book) -> replies.BookReply:
    """Return a book."""
    return replies.BookReply(
        book_id=row.book_id,
        title=row.title,
        description=row.description,
        category_id=row.category_id,
        price=number(row.price),
        received_stock=row.received_stock,
        available_stock=row.available_stock,
        reserved_stock=row.reserved_stock,
    )


def _payment(row: Payment) -> replies.PaymentReply:
    return replies.PaymentReply(status=row.status, amount=number(row.amount), transaction_id=row.transaction_id)


def _shipment(row: Shipment) -> replies.ShipmentReply:
    return replies.ShipmentReply(status=row.status, tracking_number=row.tracking_number)


def context(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a saga works with, each item under seed 003's names as well."""
    items = [{**item, "product_id": item["book_id"], "price": item["unit_price"]} for item in payload.get("items", ())]
    return {**payload, "items": items}


def _states(row: SagaInstance) -> tuple[replies.StateReply, ...]:
    return tuple(replies.StateReply.model_validate(reached) for reached in row.state_history)


def _step(logged: LoggedOperation) -> replies.StepReply:
    ended = {"completed_at": logged.finished_at} if logged.finished_at else {}
    return replies.StepReply(
        step_name=logged.step,
        operation=logged.operation,
        status=logged.status,
        started_at=logged.started_at,
        retry_attempt=max(logged.attempts - 1, 0),
        attempts=logged.attempts,
        error=logged.error,
        task_id=logged.task_id,
        failures=tuple(replies.FailureReply.model_validate(failure) for failure in logged.failures),
        result=logged.result,
        done_by=logged.done_by,
        note=logged.note,
        **ended,
    )


def _step_answer(saga_id: str, logged: LoggedOperation) -> replies.StepAnswerReply:
    step = _step(logged)
    ended = {"completed_at": step.completed_at} if step.completed_at else {}
    return replies.StepAnswerReply(
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
