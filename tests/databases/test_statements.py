"""What services share of statements and no test of a service shows, on each database."""

from decimal import Decimal

from sqlalchemy import select

from app.database.statements import add_to_columns, insert_new, lock_rows, upsert
from app.runtime import Runtime
from durable_sagas.ids import new_id
from tasks.inventory import Book, Category
from tasks.payments import Payment, PaymentMethod, PaymentStatus


def test_an_upsert_replaces_all_columns_but_those_to_keep_that_are_not_empty(here: Runtime) -> None:
    def payment(status: PaymentStatus, transaction_id: str | None, amount: int) -> Payment:
        values = {"amount": Decimal(amount), "payment_method": PaymentMethod.CREDIT_CARD, "status": status}
        return Payment(id=new_id(), order_id="o-1", transaction_id=transaction_id, **values)

    first = payment(PaymentStatus.FAILED, None, 1)
    with here.database.transaction() as session:
        for row in (first, payment(PaymentStatus.COMPLETED, "one", 2), payment(PaymentStatus.REFUNDED, "two", 3)):
            upsert(session, row, key="order_id", keep=("id", "transaction_id"))

        stored = session.scalars(select(Payment)).one()
        assert (stored.id, stored.transaction_id) == (first.id, "one")
        assert (stored.status, stored.amount) == (PaymentStatus.REFUNDED, Decimal(3))


def test_rows_whose_key_exists_are_not_inserted_again(here: Runtime) -> None:
    def insert(name: str, *keys: str) -> int:
        return insert_new(session, [Category(id=key, name=name, description="") for key in keys])

    with here.database.transaction() as session:
        assert [insert("none"), insert("first", "a", "b"), insert("second", "b", "c")] == [0, 2, 1]
        names = select(Category.name).where(Category.id.in_(["a", "b", "c"])).order_by(Category.id)
        assert list(session.scalars(names)) == ["first", "first", "second"]


def test_columns_are_added_to_in_several_rows(here: Runtime) -> None:
    changes = [
        {"book_id": "book-123", "available_stock": -2, "reserved_stock": 2},
        {"book_id": "book-789", "available_stock": -1, "reserved_stock": 1},
    ]
    with here.database.transaction() as session:
        add_to_columns(session, Book, [])
        add_to_columns(session, Book, changes)

        books = lock_rows(session, Book, ["book-789", "book-123", "nowhere"], returning=tuple(changes[0]))
        assert [tuple(book) for book in books] == [("book-123", 3, 2), ("book-789", 9, 1)]
