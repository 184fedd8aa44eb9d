"""The inventory service: the catalogue, the stock, and who it is kept for."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from pydantic import BaseModel
from sqlalchemy import CheckConstraint, ForeignKey, String, Text, func, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.database import Base
from app.errors import StepRejected
from app.messages import Event, EventType
from app.retention import Ids, Kept
from app.saga.definition import PERSISTENT, RetryPolicy
from app.saga.participant import command

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


def carry_over(session: Session, order_ids: Ids) -> None:
    """Note with each book how many copies these orders shipped, as long as their reservations can still tell."""
    shipped = (
        select(StockReservation.book_id, func.sum(StockReservation.quantity))
        .where(StockReservation.order_id.in_(order_ids), StockReservation.status == ReservationStatus.SHIPPED)
        .group_by(StockReservation.book_id)
    )
    quantities = dict(session.execute(shipped).all())
    for book in _locked_books(session, quantities).values():
        book.pruned_stock += quantities[book.book_id]
    session.flush()


KEPT = (Kept(StockReservation, "order_id", before=carry_over),)


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
    _locked_books(session, [item.book_id for order in orders for item in order.items])


@command("inventory.reserve_stock", refused=stock_unavailable, locks=lock_stock, retry=RETRY)
def reserve_stock(session: Session, order: StockOrder) -> Event:
    """Keep the stock of all items for the order, or of none. Raises StepRejected when there is not enough."""
    wanted = _quantities(order.items)
    books = _locked_books(session, wanted)
    # all before the first is taken: a refusal that has changed nothing can be recorded beside other orders
    for book_id, quantity in wanted.items():
        left = books[book_id].available_stock if book_id in books else 0
        if left < quantity:
            raise StepRejected(f"{book_id}: {quantity} wanted, {left} available")
    for book_id, quantity in wanted.items():
        book = books[book_id]
        book.available_stock -= quantity
        book.reserved_stock += quantity
        session.add(
            StockReservation(
                order_id=order.order_id, book_id=book_id, quantity=quantity, status=ReservationStatus.RESERVED
            )
        )
    return Event(StockReserved, _moved(order, wanted))


def give_back(session: Session, order: StockOrder) -> Event:
    """Give back what is still reserved for the order, all of it or nothing if a person has done it already."""
    released = _settle(session, order, ReservationStatus.RELEASED)
    return Event(StockReleased, _moved(order, released))


@command("inventory.release_stock", by_hand=give_back, locks=lock_stock)
def release_stock(session: Session, order: StockOrder) -> Event:
    """Give the order's reserved stock back to everybody."""
    return give_back(session, order)


# past the point of no return: there is no way but on
@command("inventory.ship_stock", locks=lock_stock, retry=PERSISTENT)
def ship_stock(session: Session, order: StockOrder) -> Event:
    """Hand the order's reserved stock over to the carrier: it leaves the house."""
    shipped = _settle(session, order, ReservationStatus.SHIPPED)
    return Event(StockShipped, _moved(order, shipped))


def take(session: Session, book: Book, delivery: Delivery) -> None:
    """Take a delivery of new copies of a locked book."""
    session.add(delivery)
    book.received_stock += delivery.quantity
    book.available_stock += delivery.quantity


def _settle(session: Session, order: StockOrder, status: ReservationStatus) -> dict[str, int]:
    books = _locked_books(session, [item.book_id for item in order.items])
    open_ones = select(StockReservation).where(
        StockReservation.order_id == order.order_id, StockReservation.status == ReservationStatus.RESERVED
    )
    settled = {}
    for reservation in session.scalars(open_ones):
        book = books[reservation.book_id]
        book.reserved_stock -= reservation.quantity
        if status is ReservationStatus.RELEASED:
            book.available_stock += reservation.quantity
        reservation.status = status
        settled[reservation.book_id] = reservation.quantity
    return settled


def _quantities(items: Iterable[Line]) -> dict[str, int]:
    quantities: dict[str, int] = {}
    for item in items:
        quantities[item.book_id] = quantities.get(item.book_id, 0) + item.quantity
    return quantities


def _locked_books(session: Session, book_ids: Iterable[str]) -> dict[str, Book]:
    # always in the order of their ids, or two orders for the same two books could wait for each other
    query = select(Book).where(Book.book_id.in_(set(book_ids))).order_by(Book.book_id).with_for_update()
    return {book.book_id: book for book in session.scalars(query)}


def _moved(order: StockOrder, quantities: dict[str, int]) -> dict[str, object]:
    stock = [{"book_id": book_id, "quantity": quantity} for book_id, quantity in sorted(quantities.items())]
    return {"order_id": order.order_id, "stock": stock}
