"""The inventory service: the catalogue, the stock, and who it is kept for."""

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
    """What became of reserved stock."""

    RESERVED = "reserved"
    RELEASED = "released"
    SHIPPED = "shipped"


class Category(Base):
    """A shelf of the shop."""

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
    """Shipped copies whose reservations are no longer kept: they go on counting as shipped."""


class StockReservation(Base):
    """Stock that is, or was, kept for an order."""

    __tablename__ = "stock_reservations"

    order_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    book_id: Mapped[str] = mapped_column(String(64), ForeignKey("inventory.book_id"), primary_key=True)
    quantity: Mapped[int]
    status: Mapped[ReservationStatus] = mapped_column(String(16))


def keep_shipped_count(session: Session, order_ids: Ids) -> None:
    """Note with each book how many copies these orders shipped, as long as their reservations can still tell."""
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
    """New copies that were taken, under the key of the request that told of them: told twice they are counted once."""

    __tablename__ = "deliveries"

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    book_id: Mapped[str] = mapped_column(String(64), ForeignKey("inventory.book_id"), index=True)
    quantity: Mapped[int]
    taken_by: Mapped[str] = mapped_column(String(200))
    taken_at: Mapped[datetime]


class Line(BaseModel):
    """So many copies of a book."""

    book_id: str
    quantity: int


class StockOrder(BaseModel):
    """What this service needs to know of an order."""

    order_id: str
    items: list[Line]


def stock_unavailable(_session: Session, order: StockOrder, reason: str) -> Event:
    """Say that an order's stock is not to be had."""
    return Event(StockUnavailable, {"order_id": order.order_id, "reason": reason})


def lock_stock(session: Session, orders: Iterable[StockOrder]) -> None:
    """Lock the stock that several orders are about, before the first of them is looked at."""
    _lock(session, [item.book_id for order in orders for item in order.items])


@command("inventory.reserve_stock", refused=stock_unavailable, locks=lock_stock, retry=RETRY)
def reserve_stock(session: Session, order: StockOrder) -> Event:
    """Keep the stock of all items for the order, or of none. Raises StepRejected when there is not enough."""
    wanted = _quantities(order.items)
    available = _lock(session, wanted)
    # all before the first is taken: a refusal that has changed nothing can be recorded beside other orders
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
    """Give back what is still reserved for the order, all of it or nothing if a person has done it already."""
    released = _settle(session, order, ReservationStatus.RELEASED)
    _change(session, released, available_stock=1, reserved_stock=-1)
    return Event(StockReleased, _moved(order, released))


@command("inventory.release_stock", by_hand=give_back, locks=lock_stock)
def release_stock(session: Session, order: StockOrder) -> Event:
    """Give the order's reserved stock back to everybody."""
    return give_back(session, order)


# past the point of no return: there is no way but on
@command("inventory.ship_stock", locks=lock_stock, retry=RETRY_UNTIL_STUCK)
def ship_stock(session: Session, order: StockOrder) -> Event:
    """Hand the order's reserved stock over to the carrier: it leaves the house."""
    shipped = _settle(session, order, ReservationStatus.SHIPPED)
    _change(session, shipped, reserved_stock=-1)
    return Event(StockShipped, _moved(order, shipped))


def take(session: Session, book: Book, quantity: int, *, key: str, by: str) -> bool:
    """Take a delivery of new copies of a locked book; returns False, and changes nothing, if its key is taken."""
    # no error of the statement: PostgreSQL would log it as a whole, with the operator's name
    delivery = {"key": key, "book_id": book.book_id, "quantity": quantity, "taken_by": by}
    new = insert_if_absent(session, Delivery).values(**delivery, taken_at=runtime.current().now())
    if session.execute(new.on_conflict_do_nothing().returning(Delivery.key)).first() is None:
        return False
    book.received_stock += quantity
    book.available_stock += quantity
    return True


def _settle(session: Session, order: StockOrder, status: ReservationStatus) -> dict[str, int]:
    """Give the order's open reservations the status that they end with; returns the quantities of their books."""
    settled = session.connection().execute(_SETTLE, {"of": order.order_id, "ends": status})
    quantities = {reservation.book_id: reservation.quantity for reservation in settled}
    if len(quantities) > 1:
        _lock(session, quantities)  # all in the one order, before any of them is changed
    return quantities


def _quantities(items: Iterable[Line]) -> dict[str, int]:
    quantities: dict[str, int] = {}
    for item in items:
        quantities[item.book_id] = quantities.get(item.book_id, 0) + item.quantity
    return quantities


def _lock(session: Session, book_ids: Iterable[str]) -> dict[str, int]:
    """Lock the stock of books; returns how many copies of each are available."""
    locked = session.connection().execute(_LOCK, {"book_ids": list(set(book_ids))})
    return {book.book_id: book.available_stock for book in locked}


def _change(session: Session, quantities: Mapping[str, int], **signs: int) -> None:
    """Add an order's quantities to columns of its books' stock, or take them away, as each column's sign says.

    Several books must have been locked before.
    """
    rows = [{"of": book_id, "quantity": quantity} for book_id, quantity in quantities.items()]
    if rows:
        session.connection().execute(_changed(tuple(signs.items())), rows)


@cache
def _changed(signs: tuple[tuple[str, int], ...]) -> Update:
    stock = table_of(Book)
    values = {name: stock.c[name] + sign * bindparam("quantity", type_=Integer) for name, sign in signs}
    return update(stock).where(Book.book_id == bindparam("of")).values(values)


# in the order of their ids, or two orders for the same two books could wait for each other
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
