"""The orders service: customers, orders and their items."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from pydantic import BaseModel
from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from app import runtime
from app.database import Base
from app.database.statements import insert_new, update_where
from app.errors import SagaError, StepRejected
from app.sagas import sagas
from durable_sagas.definition import RETRY_UNTIL_STUCK, RetryPolicy
from durable_sagas.messages import Event, EventType
from tasks.amounts import number
from tasks.retention import RetentionRule

OrderCreated = EventType("OrderCreated")
OrderCompleted = EventType("OrderCompleted")
OrderCancelled = EventType("OrderCancelled")
OrderTimedOut = EventType("OrderTimedOut")
OrderCancelRequested = EventType("OrderCancelRequested")
OrderAddressChanged = EventType("OrderAddressChanged")

RETRY = RetryPolicy.exponential(3)


class OrderStatus(StrEnum):
    """The status of an order."""

    PENDING = "pending"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class Customer(Base):
    """A customer."""

    __tablename__ = "customers"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    email: Mapped[str] = mapped_column(String(320))


class Order(Base):
    """An order."""

    __tablename__ = "orders"
    __table_args__ = (
        Index("ix_orders_created_at_id", "created_at", "id"),
        Index("ix_orders_customer_id_created_at", "customer_id", "created_at"),
        Index("ix_orders_status_created_at", "status", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    customer_id: Mapped[str] = mapped_column(String(64), ForeignKey("customers.id"))
    status: Mapped[OrderStatus] = mapped_column(String(16))
    total_amount: Mapped[Decimal]
    payment_method: Mapped[str] = mapped_column(String(32))
    shipping_address: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    items: Mapped[list["OrderItem"]] = relationship(
        order_by="OrderItem.line", cascade="all, delete-orphan", lazy="selectin"
    )


class OrderItem(Base):
    """A line of an order, at the price when it was ordered."""

    __tablename__ = "order_items"

    order_id: Mapped[str] = mapped_column(String(64), ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[str] = mapped_column(String(64))
    title: Mapped[str] = mapped_column(String(500))
    quantity: Mapped[int]
    unit_price: Mapped[Decimal]


class OrderRequest(Base):
    """A replayable request for an order: its idempotency key, its content's fingerprint, and the resulting order."""

    __tablename__ = "order_requests"

    key: Mapped[str] = mapped_column(String(300), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    order_id: Mapped[str] = mapped_column(String(64), index=True)
    created_at: Mapped[datetime]


RETENTION = (RetentionRule(OrderRequest, "order_id"), RetentionRule(OrderItem, "order_id"), RetentionRule(Order, "id"))


class OrderRef(BaseModel):
    """A reference to an order: the input of most commands of this service."""

    order_id: str


@sagas.command("orders.create_order", retry=RETRY)
def create_order(session: Session, ref: OrderRef) -> Event:
    """Confirm the stored order, so that the other services process it. Raises StepRejected if it is not pending."""
    order = _lock_order(session, ref.order_id)
    if order is None or order.status != OrderStatus.PENDING:
        raise _not_pending(ref.order_id, order)
    return Event(OrderCreated, order_payload(order))


def cancel(session: Session, ref: OrderRef, reason: str | None = None) -> Event:
    """Record the order's cancellation, after the other services have compensated theirs."""
    customer_id = _close(session, ref.order_id, OrderStatus.CANCELLED)
    payload = {"order_id": ref.order_id, "customer_id": customer_id, "reason": reason or "cancelled"}
    return Event(OrderCancelled, payload)


# the order is stored before its saga starts, so it must be cancelled even if create_order never ran
cancel_order = sagas.command("orders.cancel_order", unconditional=True, on_manual_completion=cancel)(cancel)


# past the point of no return: retried until it succeeds or is stuck
@sagas.command("orders.complete_order", retry=RETRY_UNTIL_STUCK)
def complete_order(session: Session, ref: OrderRef) -> Event:
    """Complete the order: it is paid for and shipped."""
    customer_id = _close(session, ref.order_id, OrderStatus.COMPLETED)
    return Event(OrderCompleted, {"order_id": ref.order_id, "customer_id": customer_id})


def new_order(
    order_id: str, customer_id: str, items: Sequence[OrderItem], payment_method: str, shipping_address: str
) -> Order:
    """Return a new pending order, to be stored by ``place``; the total is computed from the items' prices."""
    now = runtime.current().now()
    for item in items:
        item.order_id = order_id
    return Order(
        id=order_id,
        customer_id=customer_id,
        status=OrderStatus.PENDING,
        total_amount=sum((item.unit_price * item.quantity for item in items), Decimal(0)),
        payment_method=payment_method,
        shipping_address=shipping_address,
        created_at=now,
        updated_at=now,
        items=list(items),
    )


class OrderExists(SagaError):
    """Raised when an order's id, or a request's key, exists already; the transaction must be rolled back."""


def place(session: Session, orders: Sequence[Order], requests: Sequence[OrderRequest]) -> None:
    """Store orders with their items and requests, in one statement per table. Raises OrderExists."""
    # requests first: a transaction that waits for another one with the same key has then written nothing else
    for rows in (requests, orders, [item for order in orders for item in order.items]):
        if insert_new(session, rows) < len(rows):
            raise OrderExists


def order_payload(order: Order) -> dict[str, Any]:
    """Return the data of an order that other services get, as plain JSON."""
    return {
        "order_id": order.id,
        "customer_id": order.customer_id,
        "items": [
            {
                "book_id": item.book_id,
                "title": item.title,
                "quantity": item.quantity,
                "unit_price": number(item.unit_price),
            }
            for item in order.items
        ],
        "total_amount": number(order.total_amount),
        "payment_method": order.payment_method,
        "shipping_address": order.shipping_address,
    }


def change_address(order: Order, shipping_address: str) -> Event:
    """Change the shipping address of a pending order; the caller ensures that nothing has been booked yet."""
    order.shipping_address = shipping_address
    order.updated_at = runtime.current().now()
    return Event(OrderAddressChanged, {"order_id": order.id, "shipping_address": shipping_address})


def _lock_order(session: Session, order_id: str) -> Order | None:
    # a choreographed saga starts in the same transaction: an autoflush would write it before its last change
    with session.no_autoflush:
        return session.get(Order, order_id, with_for_update=True, populate_existing=True)


def _close(session: Session, order_id: str, status: OrderStatus) -> str:
    """Set a pending order's final status; return its customer's id. Raises StepRejected if it is not pending."""
    pending = {"id": order_id, "status": OrderStatus.PENDING}
    values = {"status": status, "updated_at": runtime.current().now()}
    closed = update_where(session, Order, pending, values, returning=("customer_id",))
    if not closed:
        raise _not_pending(order_id, _lock_order(session, order_id))
    return str(closed[0].customer_id)


def _not_pending(order_id: str, order: Order | None) -> StepRejected:
    return StepRejected(f"order {order_id} is {order.status if order else 'unknown'}, not pending")
