"""Seed data: seed 002's books and customers, and the books and customers of the other seeds' examples."""

from decimal import Decimal

from sqlalchemy.orm import Session

from app import runtime
from tasks.inventory import Book, Category
from tasks.orders import Customer
from workflows.orders import GUEST

_CATEGORY = ("books", "Books", "What CloudMart sells")

_BOOKS = [
    ("book-123", "クラウド設計パターン集", 3500, 5),
    ("book-456", "限定版アートブック", 8000, 0),
    ("book-789", "プログラミング入門", 2800, 10),
    ("item-001", "Saga Orchestration in Practice", 500, 1000),
    ("product-1", "The Potter Saga", 100, 1000),
    ("book-999999", "The Book No Bank Will Pay For", 999999, 10),
]

_CUSTOMERS = [
    ("customer-001", "田中太郎", "tanaka@example.com"),
    ("customer-002", "佐藤花子", "sato@example.com"),
    ("customer-123", "Example Customer", "customer-123@example.com"),
    ("user-123", "Example User", "user-123@example.com"),
    (GUEST, "Guest", "guest@example.com"),
]


def seed() -> int:
    """Insert the seed data that is missing; existing rows stay unchanged. Returns the number of inserted rows."""
    with runtime.current().database.transaction() as session:
        return _categories(session) + _books(session) + _customers(session)


def _categories(session: Session) -> int:
    identifier, name, description = _CATEGORY
    if session.get(Category, identifier):
        return 0
    session.add(Category(id=identifier, name=name, description=description))
    session.flush()
    return 1


def _books(session: Session) -> int:
    missing = [book for book in _BOOKS if session.get(Book, book[0]) is None]
    session.add_all(
        Book(
            book_id=book_id,
            title=title,
            description="",
            category_id=_CATEGORY[0],
            price=Decimal(price),
            received_stock=stock,
            available_stock=stock,
            reserved_stock=0,
        )
        for book_id, title, price, stock in missing
    )
    return len(missing)


def _customers(session: Session) -> int:
    missing = [customer for customer in _CUSTOMERS if session.get(Customer, customer[0]) is None]
    session.add_all(Customer(id=identifier, name=name, email=email) for identifier, name, email in missing)
    return len(missing)
