"""The services' business functions, called without the engine."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import StepRejected
from app.runtime import Runtime
from bench.statements import Counted
from tasks.gateways import carrier, payment_provider
from tasks.gateways.payment_provider import Receipt
from tasks.inventory import Book, BookQuantity, StockOrder, release_stock, reserve_stock, ship_stock
from tasks.orders import OrderRef, complete_order, create_order
from tasks.payments import (
    Charge,
    Payment,
    PaymentMethod,
    PaymentStatus,
    charge,
    process_payment,
    refund_payment,
    void_charge,
)
from tasks.shipping import (
    Parcel,
    Shipment,
    ShipmentStatus,
    arrange_shipping,
    book_carrier,
    record_manual_cancellation,
    unbook_carrier,
)


@pytest.fixture
def session(here: Runtime) -> Iterator[Session]:
    with here.database.transaction() as session:
        yield session


def stock(session: Session, book_id: str) -> tuple[int, int, int]:
    session.flush()
    book = session.get_one(Book, book_id)
    return book.received_stock, book.available_stock, book.reserved_stock


def order(*items: tuple[str, int]) -> StockOrder:
    return StockOrder(order_id="o-1", items=[BookQuantity(book_id=book, quantity=quantity) for book, quantity in items])


def test_reserving_keeps_stock_for_the_order(session: Session) -> None:
    event = reserve_stock(session, order(("book-123", 2), ("book-789", 1), ("book-123", 1)))

    assert event is not None
    assert event.payload["stock"] == [{"book_id": "book-123", "quantity": 3}, {"book_id": "book-789", "quantity": 1}]
    assert stock(session, "book-123") == (5, 2, 3)
    assert stock(session, "book-789") == (10, 9, 1)


def test_reserving_too_much_is_refused_with_both_figures(session: Session) -> None:
    with pytest.raises(StepRejected, match="book-123: 6 wanted, 5 available"):
        reserve_stock(session, order(("book-123", 6)))


def test_releasing_gives_back_what_was_reserved_and_no_more(session: Session) -> None:
    reserve_stock(session, order(("book-123", 2)))
    release_stock(session, order(("book-123", 2)))
    release_stock(session, order(("book-123", 2)))

    assert stock(session, "book-123") == (5, 5, 0)


def test_shipped_stock_leaves_the_house(session: Session) -> None:
    reserve_stock(session, order(("book-123", 2)))
    ship_stock(session, order(("book-123", 2)))
    release_stock(session, order(("book-123", 2)))

    assert stock(session, "book-123") == (5, 3, 0)


@pytest.mark.parametrize("method", list(PaymentMethod))
def test_a_charge_with_the_same_key_is_made_once(here: Runtime, method: PaymentMethod) -> None:
    payment = Charge(order_id="o-1", total_amount=Decimal("12.50"), payment_method=method)

    first, second = charge(payment, "key"), charge(payment, "key")

    assert first == second
    assert first.amount == Decimal("12.50")


def test_a_gateway_is_told_by_one_statement_however_often(here: Runtime) -> None:
    payment, parcel = Charge(order_id="o-1", total_amount=Decimal(1)), Parcel(order_id="o-1", shipping_address="here")
    counted = Counted(here.database.engine)

    for call in (lambda: charge(payment, "key"), lambda: book_carrier(parcel, "key")):
        for _ in range(2):
            counted.clear()
            call()
            assert counted.verbs == {"BEGIN": 1, "INSERT": 1, "commits that wrote": 1}


def test_a_payment_keeps_its_number_when_it_is_paid_back(session: Session) -> None:
    order = Charge(order_id="o-1", total_amount=Decimal(1))
    process_payment.handler(session, order, Receipt("txn-1", Decimal(1)))
    refund_payment.handler(session, order, Receipt("ref-1", Decimal(1)))

    payment = session.scalars(select(Payment)).one()
    assert (payment.status, payment.transaction_id) == (PaymentStatus.REFUNDED, "txn-1")


def test_a_shipment_keeps_its_number_when_a_person_cancels_it(session: Session) -> None:
    parcel = Parcel(order_id="o-1", shipping_address="here")
    arrange_shipping.handler(session, parcel, "CM1")
    record_manual_cancellation(session, parcel)

    shipment = session.scalars(select(Shipment)).one()
    assert (shipment.status, shipment.tracking_number) == (ShipmentStatus.CANCELLED, "CM1")


def test_an_order_that_is_not_pending_is_neither_opened_nor_ended(session: Session) -> None:
    for act in (create_order.handler, complete_order.handler):
        with pytest.raises(StepRejected, match="order nowhere is unknown, not pending"):
            act(session, OrderRef(order_id="nowhere"))


def test_a_refund_is_made_once_and_gives_back_all(here: Runtime) -> None:
    payment = Charge(order_id="o-1", total_amount=Decimal("12.50"))
    charge(payment, "key")

    first, second = void_charge(payment, "key"), void_charge(payment, "key")

    assert first is not None
    assert first == second
    assert first.amount == Decimal("12.50")


def test_a_charge_that_was_voided_before_it_came_is_refused(here: Runtime) -> None:
    payment = Charge(order_id="o-1", total_amount=Decimal(1))

    assert void_charge(payment, "key") is None
    with pytest.raises(StepRejected, match="voided"):
        charge(payment, "key")


def test_a_charge_of_999999_is_declined(here: Runtime) -> None:
    with pytest.raises(StepRejected, match="declined"):
        payment_provider().capture("key", "o-1", Decimal("999999.00"), "credit_card")


def test_a_booking_with_the_same_key_is_made_once_and_cancelled_once(here: Runtime) -> None:
    parcel = Parcel(order_id="o-1", shipping_address="1 Main Street")

    number = book_carrier(parcel, "key")

    assert book_carrier(parcel, "key") == number
    assert unbook_carrier(parcel, "key") == number
    assert unbook_carrier(parcel, "key") == number


def test_a_booking_that_was_voided_before_it_came_is_refused(here: Runtime) -> None:
    parcel = Parcel(order_id="o-1", shipping_address="1 Main Street")

    assert unbook_carrier(parcel, "key") is None
    with pytest.raises(StepRejected, match="voided"):
        book_carrier(parcel, "key")


def test_the_carrier_needs_an_address(here: Runtime) -> None:
    with pytest.raises(StepRejected, match="address"):
        carrier().book("key", "o-1", " ")
