"""Seed data: seed 002's books and customers, and the books and customers of the other seeds' examples."""

from decimal import Decimal

from app import runtime
from app.database.statements import insert_new
from tasks.inventory import Book, Category
from tasks.orders import Customer
from workflows.orders import GUEST

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
    category = Category(id="books", name="Books", description="What CloudMart sells")
    books = [
        Book(
            book_id=book_id,
            title=title,
            description="",
            category_id=category.id,
            price=Decimal(price),
            received_stock=stock,
            available_stock=stock,
        )
        for book_id, title, price, stock in _BOOKS
    ]
    customers = [Customer(id=identifier, name=name, email=email) for identifier, name, email in _CUSTOMERS]
    with runtime.current().database.transaction() as session:
        return sum(insert_new(session, rows) for rows in ([category], books, customers))
