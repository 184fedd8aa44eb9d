"""The inventory service: catalogue, stock and reservations."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from pydantic import BaseModel
from sqlalchemy import CheckConstraint, ForeignKey, String, Text, func, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from app import runtime
from app.database import Base
from app.database.statements import add_to_columns, insert_new, lock_rows, update_where
from app.errors import StepRejected
from app.sagas import sagas
from durable_sagas.definition import RETRY_UNTIL_STUCK, RetryPolicy
from durable_sagas.messages import Event, EventType
from tasks.retention import Ids, RetentionRule

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


class StockDelivery(Base):
    """A delivery of new copies, under its request's idempotency key, so that a repeated request counts once."""

    __tablename__ = "deliveries"

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    book_id: Mapped[str] = mapped_column(String(64), ForeignKey("inventory.book_id"), index=True)
    quantity: Mapped[int]
    taken_by: Mapped[str] = mapped_column(String(200))
    taken_at: Mapped[datetime]


class BookQuantity(BaseModel):
    """A book and a quantity."""

    book_id: str
    quantity: int


class StockOrder(BaseModel):
    """The part of an order that this service needs."""

    order_id: str
    items: list[BookQuantity]

    @property
    def quantities(self) -> dict[str, int]:
        """The ordered quantity of each book, which several items may share."""
        quantities = Counter[str]()
        for item in self.items:
            quantities[item.book_id] += item.quantity
        return quantities


def stock_unavailable(_session: Session, order: StockOrder, reason: str) -> Event:
    """Return the event that an order's stock is unavailable."""
    return Event(StockUnavailable, {"order_id": order.order_id, "reason": reason})


def lock_stock(session: Session, orders: Iterable[StockOrder]) -> None:
    """Lock the stock of several orders, before the first of them is processed."""
    _lock_books(session, {item.book_id for order in orders for item in order.items})


@sagas.command("inventory.reserve_stock", on_rejected=stock_unavailable, lock_shared_rows=lock_stock, retry=RETRY)
def reserve_stock(session: Session, order: StockOrder) -> Event:
    """Reserve the stock of all items of the order, or of none. Raises StepRejected if there is not enough."""
    wanted = order.quantities
    available = _lock_books(session, wanted.keys())
    # all are checked before the first is changed: a rejection that wrote nothing can be recorded in a batch
    for book_id, quantity in wanted.items():
        left = available.get(book_id, 0)
        if left < quantity:
            raise StepRejected(f"{book_id}: {quantity} wanted, {left} available")
    _add_to_stock(session, wanted, available_stock=-1, reserved_stock=1)
    session.add_all(
        StockReservation(order_id=order.order_id, book_id=book_id, quantity=quantity, status=ReservationStatus.RESERVED)
        for book_id, quantity in wanted.items()
    )
    return _stock_moved(StockReserved, order, wanted)


def release(session: Session, order: StockOrder) -> Event:
    """Release what is still reserved for the order; nothing if it was released already, for instance manually."""
    released = _close_reservations(session, order, ReservationStatus.RELEASED)
    _add_to_stock(session, released, available_stock=1, reserved_stock=-1)
    return _stock_moved(StockReleased, order, released)


release_stock = sagas.command("inventory.release_stock", on_manual_completion=release, lock_shared_rows=lock_stock)(
    release
)


# past the point of no return: retried until it succeeds or is stuck
@sagas.command("inventory.ship_stock", lock_shared_rows=lock_stock, retry=RETRY_UNTIL_STUCK)
def ship_stock(session: Session, order: StockOrder) -> Event:
    """Ship the order's reserved stock: the carrier collects it."""
    shipped = _close_reservations(session, order, ReservationStatus.SHIPPED)
    _add_to_stock(session, shipped, reserved_stock=-1)
    return _stock_moved(StockShipped, order, shipped)


def receive(session: Session, book: Book, quantity: int, *, key: str, by: str) -> bool:
    """Add a delivery of new copies of a locked book; return False, without any change, if its key exists."""
    now = runtime.current().now()
    delivery = StockDelivery(key=key, book_id=book.book_id, quantity=quantity, taken_by=by, taken_at=now)
    if not insert_new(session, [delivery]):
        return False
    book.received_stock += quantity
    book.available_stock += quantity
    return True


def keep_shipped_count(session: Session, order_ids: Ids) -> None:
    """Add the copies that these orders shipped to their books' rows, before the reservations are deleted."""
    shipped = dict(
        session.execute(
            select(StockReservation.book_id, func.sum(StockReservation.quantity))
            .where(StockReservation.order_id.in_(order_ids), StockReservation.status == ReservationStatus.SHIPPED)
            .group_by(StockReservation.book_id)
        ).all()
    )
    _lock_books(session, shipped.keys())
    _add_to_stock(session, shipped, pruned_stock=1)


RETENTION = (RetentionRule(StockReservation, "order_id", before=keep_shipped_count),)


def _lock_books(session: Session, book_ids: Collection[str]) -> dict[str, int]:
    """Lock the stock of books; return the available copies of each."""
    books = lock_rows(session, Book, book_ids, returning=("book_id", "available_stock"))
    return {book.book_id: book.available_stock for book in books}


def _add_to_stock(session: Session, quantities: Mapping[str, int], **signs: int) -> None:
    """Add each book's quantity to the named columns, with their signs. Several books must be locked before."""
    rows = [
        {"book_id": book_id, **{column: sign * quantity for column, sign in signs.items()}}
        for book_id, quantity in quantities.items()
    ]
    add_to_columns(session, Book, rows)


def _close_reservations(session: Session, order: StockOrder, status: ReservationStatus) -> dict[str, int]:
    """Set the final status of the order's open reservations; return the quantity of each book."""
    open_ones = {"order_id": order.order_id, "status": ReservationStatus.RESERVED}
    closed = update_where(session, StockReservation, open_ones, {"status": status}, returning=("book_id", "quantity"))
    quantities = {reservation.book_id: reservation.quantity for reservation in closed}
    if len(quantities) > 1:
        _lock_books(session, quantities.keys())
    return quantities


def _stock_moved(event_type: EventType, order: StockOrder, quantities: Mapping[str, int]) -> Event:
    stock = [{"book_id": book_id, "quantity": quantity} for book_id, quantity in sorted(quantities.items())]
    return Event(event_type, {"order_id": order.order_id, "stock": stock})
