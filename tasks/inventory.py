"""The inventory service: catalogue, stock and reservations."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache

from pydantic import BaseModel
from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Integer,
    String,
    Text,
    Update,
    bindparam,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from app import runtime
from app.database import Base, insert_if_absent, table_of
from app.errors import StepRejected
from app.messages import Event, EventType
from app.retention import Ids, RetentionRule
from app.saga.commands import command
from app.saga.definition import RETRY_UNTIL_STUCK, RetryPolicy

StockReserved = EventType("StockReserved")
StockUnavailable = EventType("StockUnavailable")
StockReleased = EventType("StockReleased")
StockShipped = EventType("StockShipped")

RETRY = RetryPolicy.exponential(3)


class ReservationStatus(StrEnum):
    """The status of a reservation."""

    RESERVED = "reserved"
    RELEASED = "released"
    SHIPPED = "shipped"


class Category(Base):
    """A category of books."""

    __tablename__ = "categories"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text, default="")


class Book(Base):
    """A book, its price and its stock; ``received = available + reserved + shipped`` holds at every commit."""

    __tablename__ = "inventory"
    __table_args__ = (
        CheckConstraint("available_stock >= 0", name="available_not_negative"),
        CheckConstraint("reserved_stock >= 0", name="reserved_not_negative"),
        CheckConstraint("received_stock >= available_stock + reserved_stock", name="received_covers_stock"),
    )

    book_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    title: Mapped[str] = mapped_column(String(500))
    description: Mapped[str] = mapped_column(Text, default="")
    category_id: Mapped[str | None] = mapped_column(String(64), ForeignKey("categories.id"))
    price: Mapped[Decimal]
    received_stock: Mapped[int]
    available_stock: Mapped[int]
    reserved_stock: Mapped[int] = mapped_column(default=0)
    pruned_stock: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """Shipped copies whose reservations were pruned; they still count as shipped."""


class StockReservation(Base):
    """Stock that is, or was, reserved for an order."""

    __tablename__ = "stock_reservations"

    order_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    book_id: Mapped[str] = mapped_column(String(64), ForeignKey("inventory.book_id"), primary_key=True)
    quantity: Mapped[int]
    status: Mapped[ReservationStatus] = mapped_column(String(16))


def keep_shipped_count(session: Session, order_ids: Ids) -> None:
    """Add the copies that these orders shipped to their books' rows, before the reservations are deleted."""
    shipped = (
        select(StockReservation.book_id, func.sum(StockReservation.quantity))
        .where(StockReservation.order_id.in_(order_ids), StockReservation.status == ReservationStatus.SHIPPED)
        .group_by(StockReservation.book_id)
    )
    quantities = dict(session.execute(shipped).all())
    _lock(session, quantities)
    _change(session, quantities, pruned_stock=1)


RETENTION = (RetentionRule(StockReservation, "order_id", before=keep_shipped_count),)


class Delivery(Base):
    """A delivery of new copies, under its request's idempotency key, so that a repeated request counts once."""

    __tablename__ = "deliveries"

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    book_id: Mapped[str] = mapped_column(String(64), ForeignKey("inventory.book_id"), index=True)
    quantity: Mapped[int]
    taken_by: Mapped[str] = mapped_column(String(200))
    taken_at: Mapped[datetime]


class Line(BaseModel):
    """A book and a quantity."""

    book_id: str
    quantity: int


class StockOrder(BaseModel):
    """The part of an order that this service needs."""

    order_id: str
    items: list[Line]


def stock_unavailable(_session: Session, order: StockOrder, reason: str) -> Event:
    """Return the event that an order's stock is unavailable."""
    return Event(StockUnavailable, {"order_id": order.order_id, "reason": reason})


def lock_stock(session: Session, orders: Iterable[StockOrder]) -> None:
    """Lock the stock of several orders, before the first of them is processed."""
    _lock(session, [item.book_id for order in orders for item in order.items])


@command("inventory.reserve_stock", on_rejected=stock_unavailable, lock_shared_rows=lock_stock, retry=RETRY)
def reserve_stock(session: Session, order: StockOrder) -> Event:
    """Reserve the stock of all items of the order, or of none. Raises StepRejected if there is not enough."""
    wanted = _quantities(order.items)
    available = _lock(session, wanted)
    # all are checked before the first is changed: a rejection that wrote nothing can be recorded in a batch
    for book_id, quantity in wanted.items():
        left = available.get(book_id, 0)
        if left < quantity:
            raise StepRejected(f"{book_id}: {quantity} wanted, {left} available")
    _change(session, wanted, available_stock=-1, reserved_stock=1)
    kept = {"order_id": order.order_id, "status": ReservationStatus.RESERVED}
    reservations = [{**kept, "book_id": book_id, "quantity": quantity} for book_id, quantity in wanted.items()]
    session.connection().execute(_RESERVE, reservations)
    return Event(StockReserved, _moved(order, wanted))


def give_back(session: Session, order: StockOrder) -> Event:
    """Release what is still reserved for the order; nothing if it was released already, for instance manually."""
    released = _settle(session, order, ReservationStatus.RELEASED)
    _change(session, released, available_stock=1, reserved_stock=-1)
    return Event(StockReleased, _moved(order, released))


@command("inventory.release_stock", on_manual_completion=give_back, lock_shared_rows=lock_stock)
def release_stock(session: Session, order: StockOrder) -> Event:
    """Release the order's reserved stock."""
    return give_back(session, order)


# past the point of no return: retried until it succeeds or is stuck
@command("inventory.ship_stock", lock_shared_rows=lock_stock, retry=RETRY_UNTIL_STUCK)
def ship_stock(session: Session, order: StockOrder) -> Event:
    """Ship the order's reserved stock: the carrier collects it."""
    shipped = _settle(session, order, ReservationStatus.SHIPPED)
    _change(session, shipped, reserved_stock=-1)
    return Event(StockShipped, _moved(order, shipped))


def take(session: Session, book: Book, quantity: int, *, key: str, by: str) -> bool:
    """Add a delivery of new copies of a locked book; return False, without any change, if its key exists."""
    # a conflict must not be an error: PostgreSQL would log the whole statement, with the operator's name
    delivery = {"key": key, "book_id": book.book_id, "quantity": quantity, "taken_by": by}
    new = insert_if_absent(session, Delivery).values(**delivery, taken_at=runtime.current().now())
    if session.execute(new.on_conflict_do_nothing().returning(Delivery.key)).first() is None:
        return False
    book.received_stock += quantity
    book.available_stock += quantity
    return True


def _settle(session: Session, order: StockOrder, status: ReservationStatus) -> dict[str, int]:
    """Set the final status of the order's open reservations; return the quantities by book."""
    settled = session.connection().execute(_SETTLE, {"of": order.order_id, "ends": status})
    quantities = {reservation.book_id: reservation.quantity for reservation in settled}
    if len(quantities) > 1:
        _lock(session, quantities)  # all in the fixed order, before any of them is changed
    return quantities


def _quantities(items: Iterable[Line]) -> dict[str, int]:
    quantities: dict[str, int] = {}
    for item in items:
        quantities[item.book_id] = quantities.get(item.book_id, 0) + item.quantity
    return quantities


def _lock(session: Session, book_ids: Iterable[str]) -> dict[str, int]:
    """Lock the stock of books; return the available copies of each."""
    locked = session.connection().execute(_LOCK, {"book_ids": list(set(book_ids))})
    return {book.book_id: book.available_stock for book in locked}


def _change(session: Session, quantities: Mapping[str, int], **signs: int) -> None:
    """Add an order's quantities to columns of its books' rows, or subtract them, by each column's sign.

    Several books must be locked before.
    """
    rows = [{"of": book_id, "quantity": quantity} for book_id, quantity in quantities.items()]
    if rows:
        session.connection().execute(_changed(tuple(signs.items())), rows)


@cache
def _changed(signs: tuple[tuple[str, int], ...]) -> Update:
    stock = table_of(Book)
    values = {name: stock.c[name] + sign * bindparam("quantity", type_=Integer) for name, sign in signs}
    return update(stock).where(Book.book_id == bindparam("of")).values(values)


# in the order of their ids, or two orders for the same two books could deadlock
_LOCK = (
    select(Book.book_id, Book.available_stock)
    .where(Book.book_id.in_(bindparam("book_ids", expanding=True)))
    .order_by(Book.book_id)
    .with_for_update()
)
_RESERVE = insert(table_of(StockReservation))
_SETTLE = (
    update(table_of(StockReservation))
    .where(StockReservation.order_id == bindparam("of"), StockReservation.status == ReservationStatus.RESERVED)
    .values(status=bindparam("ends"))
    .returning(StockReservation.book_id, StockReservation.quantity)
)


def _moved(order: StockOrder, quantities: dict[str, int]) -> dict[str, object]:
    stock = [{"book_id": book_id, "quantity": quantity} for book_id, quantity in sorted(quantities.items())]
    return {"order_id": order.order_id, "stock": stock}
