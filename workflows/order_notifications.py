"""Notify the customer when an order ends, in either pattern."""

from sqlalchemy.orm import Session

from app.sagas import sagas
from durable_sagas import StoredEvent
from tasks import notifications
from tasks.orders import OrderCancelled, OrderCompleted


@sagas.on(OrderCompleted, OrderCancelled, queue="notifications")
def notify_customer(session: Session, event: StoredEvent) -> None:
    """Notify the customer that the order is on its way, or that it was cancelled and why."""
    order_id = event.payload["order_id"]
    if event.event_type == OrderCompleted:
        message = f"Your order {order_id} is on its way."
    else:
        message = f"Your order {order_id} was cancelled: {event.payload['reason']}. You keep your money."
    notifications.notify(session, event.event_type, order_id, event.payload["customer_id"], message)
