"""The statements that services share, on each database."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database.statements import add_to_columns, insert_new, insert_once, lock_rows, update_where, upsert
from app.runtime import Runtime
from durable_sagas.ids import new_id
from tasks.gateways.carrier import CarrierEntry
from tasks.inventory import Book, Category, ReservationStatus, StockReservation
from tasks.payments import Payment, PaymentMethod, PaymentStatus


@pytest.fixture
def session(here: Runtime) -> Iterator[Session]:
    with here.database.transaction() as session:
        yield session


def payment(status: PaymentStatus, transaction_id: str | None, amount: int = 1) -> Payment:
    return Payment(
        id=new_id(),
        order_id="o-1",
        amount=Decimal(amount),
        payment_method=PaymentMethod.CREDIT_CARD,
        status=status,
        transaction_id=transaction_id,
    )


def entry(kind: str) -> CarrierEntry:
    return CarrierEntry(idempotency_key="key", order_id="o-1", kind=kind, tracking_number=kind)


def test_an_upsert_replaces_all_columns_but_those_to_keep(session: Session) -> None:
    first, second = payment(PaymentStatus.COMPLETED, "txn-1"), payment(PaymentStatus.REFUNDED, "txn-2", amount=2)
    for row in (first, second):
        upsert(session, row, key="order_id", keep=("id", "transaction_id"))

    stored = session.scalars(select(Payment)).one()
    assert (stored.id, stored.transaction_id) == (first.id, "txn-1")
    assert (stored.status, stored.amount) == (PaymentStatus.REFUNDED, Decimal(2))


def test_an_upsert_fills_a_column_to_keep_that_is_empty(session: Session) -> None:
    for row in (payment(PaymentStatus.FAILED, None), payment(PaymentStatus.COMPLETED, "txn-1")):
        upsert(session, row, key="order_id", keep=("transaction_id",))

    assert session.scalars(select(Payment.transaction_id)).one() == "txn-1"


def test_rows_whose_key_exists_are_not_inserted_again(session: Session) -> None:
    def category(key: str, name: str) -> Category:
        return Category(id=key, name=name, description="")

    assert insert_new(session, []) == 0
    assert insert_new(session, [category("a", "first"), category("b", "first")]) == 2
    assert insert_new(session, [category("b", "second"), category("c", "second")]) == 1
    names = select(Category.name).where(Category.id.in_(["a", "b", "c"])).order_by(Category.id)
    assert list(session.scalars(names)) == ["first", "first", "second"]


def test_what_is_inserted_once_is_returned_as_it_was_inserted_first(session: Session) -> None:
    assert [insert_once(session, entry(kind)).kind for kind in ("book", "void")] == ["book", "book"]


def test_pending_changes_are_seen(session: Session) -> None:
    session.add(StockReservation(order_id="o-1", book_id="book-123", quantity=2, status=ReservationStatus.RESERVED))

    def release() -> list[tuple[str, int]]:
        where = {"order_id": "o-1", "status": ReservationStatus.RESERVED}
        values = {"status": ReservationStatus.RELEASED}
        rows = update_where(session, StockReservation, where, values, returning=("book_id", "quantity"))
        return [(row.book_id, row.quantity) for row in rows]

    assert release() == [("book-123", 2)]
    assert release() == []


def test_columns_are_added_to_in_several_rows(session: Session) -> None:
    add_to_columns(session, Book, [])
    add_to_columns(
        session,
        Book,
        [
            {"book_id": "book-123", "available_stock": -2, "reserved_stock": 2},
            {"book_id": "book-789", "available_stock": -1, "reserved_stock": 1},
        ],
    )

    columns = ("book_id", "available_stock", "reserved_stock")
    books = lock_rows(session, Book, ["book-789", "book-123", "nowhere"], returning=columns)
    assert [tuple(book) for book in books] == [("book-123", 3, 2), ("book-789", 9, 1)]
