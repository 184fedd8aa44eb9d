"""The orders service: customers, orders and their items."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache
from typing import Any

from pydantic import BaseModel
from sqlalchemy import (
    BindParameter,
    Executable,
    ForeignKey,
    Index,
    Row,
    String,
    Text,
    bindparam,
    insert,
    select,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from app import runtime
from app.database import Base, dialect_of, insert_in, table_of
from app.errors import CloudMartError, StepRejected
from app.messages import Event, EventType, number
from app.retention import RetentionRule
from app.saga.commands import command
from app.saga.definition import RETRY_UNTIL_STUCK, RetryPolicy

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


class Cancellation(OrderRef):
    """An order to be cancelled, and why."""

    reason: str | None = None


def pending(
    order_id: str,
    customer_id: str,
    items: Sequence[OrderItem],
    payment_method: str,
    shipping_address: str,
) -> Order:
    """Return a new pending order, to be stored by ``place``; the total is computed from the items' prices."""
    now = runtime.current().now()
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


class Taken(CloudMartError):
    """Raised when an order's id, or a request's key, exists already; the transaction must be rolled back."""


def place(session: Session, orders: Sequence[Order], requests: Sequence[OrderRequest]) -> None:
    """Store orders with their items and requests, in one statement per table.

    Raises Taken. A conflict is not an error of the statement: PostgreSQL would log it as a whole, with the address.
    """
    connection = session.connection()
    insert_new = _insert_new(dialect_of(session))
    lines = [{**_row(_LINE, item), "order_id": order.id} for order in orders for item in order.items]
    # requests first: a transaction that waits for another one with the same key has then written nothing else
    for insert_rows, rows in (
        (insert_new[OrderRequest], [_row(_REQUEST, request) for request in requests]),
        (insert_new[Order], [_row(_ORDER, order) for order in orders]),
    ):
        if rows and len(connection.execute(insert_rows, rows).all()) < len(rows):
            raise Taken
    connection.execute(_INSERT_LINES, lines)


@cache
def _insert_new(dialect: str) -> dict[type[Base], Executable]:
    """Return INSERTs that skip existing keys, and return the keys of the inserted rows."""
    return {
        table: insert_in(dialect, table).on_conflict_do_nothing().returning(key)
        for table, key in ((OrderRequest, OrderRequest.key), (Order, Order.id))
    }


def _row(columns: Iterable[str], of: Base) -> dict[str, Any]:
    return {name: getattr(of, name) for name in columns}


# built once, and without a flush, which takes longer to find the changes than to write them
_ORDER, _LINE, _REQUEST = (
    [column.key for column in table.__mapper__.column_attrs] for table in (Order, OrderItem, OrderRequest)
)
_INSERT_LINES = insert(table_of(OrderItem))


def facts(order: Order) -> dict[str, Any]:
    """Return the data of an order that other services get, as plain JSON."""
    return _facts(order, order.items)


def _facts(order: Order | Row[Any], items: Iterable[OrderItem | Row[Any]]) -> dict[str, Any]:
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
            for item in items
        ],
        "total_amount": number(order.total_amount),
        "payment_method": order.payment_method,
        "shipping_address": order.shipping_address,
    }


@command("orders.create_order", retry=RETRY)
def create_order(session: Session, ref: OrderRef) -> Event:
    """Confirm the stored order, so that the other services process it."""
    connection, which = session.connection(), {"order_id": ref.order_id}
    order = connection.execute(_LOCKED, which).one_or_none()
    if order is None or order.status != OrderStatus.PENDING:
        raise _not_pending(ref.order_id, order)
    return Event(OrderCreated, _facts(order, connection.execute(_ITEMS, which)))


def close(session: Session, cancellation: Cancellation) -> Event:
    """Record the order's cancellation."""
    customer_id = _end(session, cancellation.order_id, OrderStatus.CANCELLED)
    reason = cancellation.reason or "cancelled"
    return Event(OrderCancelled, {"order_id": cancellation.order_id, "customer_id": customer_id, "reason": reason})


# the order is stored before its saga starts, so it must be cancelled even if create_order never ran
@command("orders.cancel_order", unconditional=True, on_manual_completion=close)
def cancel_order(session: Session, cancellation: Cancellation) -> Event:
    """Cancel the order, after the other services have compensated theirs."""
    return close(session, cancellation)


# past the point of no return: retried until it succeeds or is stuck
@command("orders.complete_order", retry=RETRY_UNTIL_STUCK)
def complete_order(session: Session, ref: OrderRef) -> Event:
    """Complete the order: it is paid for and shipped."""
    customer_id = _end(session, ref.order_id, OrderStatus.COMPLETED)
    return Event(OrderCompleted, {"order_id": ref.order_id, "customer_id": customer_id})


def change_address(order: Order, shipping_address: str) -> Event:
    """Change the shipping address of a pending order; the caller ensures that nothing has been booked yet."""
    order.shipping_address = shipping_address
    order.updated_at = runtime.current().now()
    return Event(OrderAddressChanged, {"order_id": order.id, "shipping_address": shipping_address})


def _end(session: Session, order_id: str, status: OrderStatus) -> str:
    """Set a pending order's final status; return its customer's id. Raises StepRejected if it is not pending."""
    connection, which = session.connection(), {"order_id": order_id}
    customer_id: str | None = connection.scalar(_ENDED, {**which, "ends": status, "at": runtime.current().now()})
    if customer_id is None:
        raise _not_pending(order_id, connection.execute(_LOCKED, which).one_or_none())
    return customer_id


def _not_pending(order_id: str, order: Row[Any] | None) -> StepRejected:
    return StepRejected(f"order {order_id} is {order.status if order else 'unknown'}, not pending")


_ID: BindParameter[str] = bindparam("order_id")
_LOCKED = select(table_of(Order)).where(Order.id == _ID).with_for_update()
_ITEMS = select(table_of(OrderItem)).where(OrderItem.order_id == _ID).order_by(OrderItem.line)
_ENDED = (
    update(table_of(Order))
    .where(Order.id == _ID, Order.status == OrderStatus.PENDING)
    .values(status=bindparam("ends"), updated_at=bindparam("at"))
    .returning(Order.customer_id)
)
