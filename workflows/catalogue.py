"""Maintain the catalogue: categories, books and their stock."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import runtime
from app.errors import Conflict, Invalid, NotFound
from durable_sagas.ids import new_id
from tasks import inventory
from tasks.inventory import Book, Category, StockDelivery

MAX_STOCK = 2**31 - 1
"""The maximum of the stock columns, which are 32-bit integers."""


def add_category(name: str, description: str, *, category_id: str | None = None) -> Category:
    """Create a category. Raises Conflict if the id is taken."""
    category = Category(id=category_id or new_id(), name=name, description=description)
    try:
        with runtime.current().database.transaction() as session:
            session.add(category)
    except IntegrityError as error:
        raise Conflict(f"there is a category {category.id} already") from error
    return category


@dataclass(frozen=True)
class NewBook:
    """A book to be added to the catalogue; an id is generated unless the caller provides one."""

    title: str
    description: str
    price: Decimal
    category_id: str | None
    stock: int
    book_id: str | None = None


def add_book(new: NewBook) -> Book:
    """Add a book to the catalogue. Raises Invalid (unknown category) and Conflict (the id is taken)."""
    book = Book(
        book_id=new.book_id or new_id(),
        title=new.title,
        description=new.description,
        category_id=new.category_id,
        price=new.price,
        received_stock=new.stock,
        available_stock=new.stock,
        reserved_stock=0,
    )
    conflict = Conflict(f"there is a book {book.book_id} already", field="book_id")
    try:
        with runtime.current().database.transaction() as session:
            _check_category(session, new.category_id)
            if session.get(Book, book.book_id):
                raise conflict
            session.add(book)
    except IntegrityError as error:
        # a concurrent request took the id; categories are never deleted, so no other constraint can fail
        raise conflict from error
    return book


def change_book(
    book_id: str, *, title: str, description: str, price: Decimal, category_id: str | None, expected_etag: str
) -> Book:
    """Change a book's data; existing orders keep the title and the price that they were placed with.

    ``expected_etag`` is the ``etag`` of the version that the change is based on (optimistic locking); a change that is
    already in effect succeeds whatever it is. Raises NotFound, Invalid (unknown category) and Conflict (the book was
    changed in the meantime).
    """
    with runtime.current().database.transaction() as session:
        book = _locked(session, book_id)
        changes = {"title": title, "description": description, "price": price, "category_id": category_id}
        if all(getattr(book, name) == value for name, value in changes.items()):
            return book
        if etag(book) != expected_etag:
            raise Conflict("the book was changed in the meantime: load its current version")
        _check_category(session, category_id)
        for name, value in changes.items():
            setattr(book, name, value)
    return book


def etag(book: Book) -> str:
    """Return an entity tag of a book: a hash of the fields that ``change_book`` changes, without the stock."""
    content = [book.title, book.description, str(book.price), book.category_id]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def restock(book_id: str, quantity: int, *, by: str, key: str | None = None) -> Book:
    """Record a delivery of new copies of a book; idempotent by ``key``.

    Raises NotFound, Conflict (more than the stock columns hold) and Invalid (the key was used for another request).
    """
    reused = Invalid("the key was used before, for a different request", field="Idempotency-Key")
    with runtime.current().database.transaction() as session:
        book = _locked(session, book_id)
        # a concurrent request with the same key for the same book waits for its lock
        if key and (earlier := session.get(StockDelivery, key)):
            if (earlier.book_id, earlier.quantity) != (book_id, quantity):
                raise reused
            return book
        if book.received_stock + quantity > MAX_STOCK:
            raise Conflict(f"no more than {MAX_STOCK} copies of a book can be received", field="quantity")
        if not inventory.receive(session, book, quantity, key=key or new_id(), by=by):
            raise reused  # by a concurrent request, for another book
    return book


def deliveries(book_id: str, *, limit: int) -> Sequence[StockDelivery]:
    """Return the latest deliveries of a book, newest first."""
    latest = (
        select(StockDelivery)
        .where(StockDelivery.book_id == book_id)
        .order_by(StockDelivery.taken_at.desc(), StockDelivery.key)
    )
    with runtime.current().database.reading() as session:
        return session.scalars(latest.limit(limit)).all()


def _locked(session: Session, book_id: str) -> Book:
    book = session.get(Book, book_id, with_for_update=True)
    if book is None:
        raise NotFound(f"there is no book {book_id}")
    return book


def _check_category(session: Session, category_id: str | None) -> None:
    if category_id is not None and session.get(Category, category_id) is None:
        raise Invalid(f"there is no category {category_id}", field="category_id")
