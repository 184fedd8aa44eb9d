"""Keeping the catalogue: categories, books and their stock."""

from decimal import Decimal

from sqlalchemy.exc import IntegrityError

from app import runtime
from app.errors import Conflict, Invalid, NotFound
from app.ids import new_id
from tasks import inventory
from tasks.inventory import Book, Category

MOST_STOCK = 2**31 - 1
"""What the stock columns hold."""


def add_category(name: str, description: str) -> Category:
    """Open a new category."""
    with runtime.current().database.transaction() as session:
        category = Category(id=new_id(), name=name, description=description)
        session.add(category)
    return category


def add_book(
    *, title: str, description: str, price: Decimal, category_id: str | None, stock: int, book_id: str | None = None
) -> Book:
    """Put a new book on sale. Raises Invalid (unknown category) and Conflict (the id is taken)."""
    book = Book(
        book_id=book_id or new_id(),
        title=title,
        description=description,
        category_id=category_id,
        price=price,
        received_stock=stock,
        available_stock=stock,
        reserved_stock=0,
    )
    taken = Conflict(f"there is a book {book.book_id} already", field="book_id")
    try:
        with runtime.current().database.transaction() as session:
            if category_id is not None and session.get(Category, category_id) is None:
                raise Invalid(f"there is no category {category_id}", field="category_id")
            if session.get(Book, book.book_id):
                raise taken
            session.add(book)
    except IntegrityError as error:
        # somebody took the id at the same time; categories are never deleted, so it can be nothing else
        raise taken from error
    return book


def restock(book_id: str, quantity: int) -> Book:
    """Take delivery of new copies of a book. Raises NotFound and Conflict (more than the stock columns hold)."""
    with runtime.current().database.transaction() as session:
        book = session.get(Book, book_id, with_for_update=True)
        if book is None:
            raise NotFound(f"there is no book {book_id}")
        if book.received_stock + quantity > MOST_STOCK:
            raise Conflict(f"no more than {MOST_STOCK} copies of a book can be received", field="quantity")
        inventory.add_stock(book, quantity)
    return book
