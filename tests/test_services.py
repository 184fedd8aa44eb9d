"""The services' business functions, called without the engine, and the gateways."""

import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.database import Database
from app.errors import DatabaseUnavailable, StepRejected, StepUnavailable
from app.runtime import Runtime
from bench.statements import Counted
from tasks.gateways import carrier, payment_provider
from tasks.gateways.payment_provider import DECLINED_AMOUNT, Receipt
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


def test_reserving_keeps_stock_for_the_order_or_is_refused_with_both_figures(session: Session) -> None:
    event = reserve_stock(session, order(("book-123", 2), ("book-789", 1), ("book-123", 1)))

    assert event is not None
    assert event.payload["stock"] == [{"book_id": "book-123", "quantity": 3}, {"book_id": "book-789", "quantity": 1}]
    assert stock(session, "book-123") == (5, 2, 3)
    assert stock(session, "book-789") == (10, 9, 1)
    with pytest.raises(StepRejected, match="book-123: 6 wanted, 2 available"):
        reserve_stock(session, order(("book-123", 6)))


@pytest.mark.parametrize(("then", "available"), [(release_stock, 5), (ship_stock, 3)])
def test_what_is_reserved_is_given_back_or_leaves_the_house_once(
    session: Session, then: Callable[[Session, StockOrder], object], available: int
) -> None:
    two = order(("book-123", 2))
    for act in (reserve_stock, then, release_stock):
        act(session, two)

    assert stock(session, "book-123") == (5, available, 0)


CHARGE = Charge(order_id="o-1", total_amount=Decimal("12.50"))
PARCEL = Parcel(order_id="o-1", shipping_address="1 Main Street")


@pytest.mark.parametrize("method", list(PaymentMethod))
def test_a_charge_is_made_once_and_given_back_once(here: Runtime, method: PaymentMethod) -> None:
    payment = CHARGE.model_copy(update={"payment_method": method})

    paid = {charge(payment, "key") for _ in range(2)}
    refunded = {void_charge(payment, "key") for _ in range(2)}

    assert [receipt.amount for receipt in paid] == [Decimal("12.50")]
    assert [receipt and receipt.amount for receipt in refunded] == [Decimal("12.50")]


def test_a_booking_is_made_once_and_cancelled_once(here: Runtime) -> None:
    number = book_carrier(PARCEL, "key")

    assert [call(PARCEL, "key") for call in (book_carrier, unbook_carrier, unbook_carrier)] == [number] * 3


def test_what_was_voided_before_it_came_is_refused(here: Runtime) -> None:
    assert void_charge(CHARGE, "key") is None
    with pytest.raises(StepRejected, match="voided"):
        charge(CHARGE, "key")
    assert unbook_carrier(PARCEL, "key") is None
    with pytest.raises(StepRejected, match="voided"):
        book_carrier(PARCEL, "key")


def test_a_gateway_is_told_by_one_statement_however_often(here: Runtime) -> None:
    counted = Counted(here.database.engine)

    for call in (lambda: charge(CHARGE, "key"), lambda: book_carrier(PARCEL, "key")):
        for _ in range(2):
            counted.clear()
            call()
            assert counted.verbs == {"BEGIN": 1, "INSERT": 1, "commits that wrote": 1}


def test_payment_and_shipment_keep_their_numbers_when_they_are_undone(session: Session) -> None:
    process_payment.handler(session, CHARGE, Receipt("txn-1", Decimal(1)))
    refund_payment.handler(session, CHARGE, Receipt("ref-1", Decimal(1)))
    arrange_shipping.handler(session, PARCEL, "CM1")
    record_manual_cancellation(session, PARCEL)

    payment = session.scalars(select(Payment)).one()
    assert (payment.status, payment.transaction_id) == (PaymentStatus.REFUNDED, "txn-1")
    shipment = session.scalars(select(Shipment)).one()
    assert (shipment.status, shipment.tracking_number) == (ShipmentStatus.CANCELLED, "CM1")


def test_an_order_that_is_not_pending_is_neither_opened_nor_ended(session: Session) -> None:
    for act in (create_order.handler, complete_order.handler):
        with pytest.raises(StepRejected, match="order nowhere is unknown, not pending"):
            act(session, OrderRef(order_id="nowhere"))


# ---- gateways whose answers are late, or too late


def far_away(here: Runtime, latency: float, timeout: float = 5) -> None:
    """Have the gateways answer so late, and be waited for so long."""
    here.settings = here.settings.but(gateway_latency_seconds=latency, gateway_timeout_seconds=timeout)


def test_an_answer_comes_when_it_is_due_and_a_no_takes_as_long_as_a_yes(here: Runtime) -> None:
    far_away(here, latency=0.05)
    began = time.monotonic()

    assert payment_provider().capture("key", "order-1", Decimal(1200), "credit_card").amount == Decimal(1200)
    assert time.monotonic() - began >= 0.05
    with pytest.raises(StepRejected, match="declined"):
        payment_provider().capture("other key", "order-1", DECLINED_AMOUNT, "credit_card")
    assert time.monotonic() - began >= 0.1
    with pytest.raises(StepRejected, match="address"):
        carrier().book("key", "order-1", " ")
    assert time.monotonic() - began >= 0.15


def test_an_answer_after_the_timeout_is_not_waited_for_and_may_be_voided(here: Runtime) -> None:
    far_away(here, latency=600, timeout=0.1)

    with pytest.raises(StepUnavailable, match=r"did not answer within 0\.1 s"):
        payment_provider().capture("key", "order-1", Decimal(1200), "credit_card")

    with here.database.reading() as session:  # nobody was told
        assert session.scalar(text("SELECT count(*) FROM payment_provider_ledger WHERE kind = 'capture'")) == 1
    far_away(here, latency=0)
    refund = payment_provider().void("key", "order-1")
    assert refund is not None
    assert refund.amount == Decimal(1200)


def test_a_database_fault_is_not_hidden_by_an_answer_that_is_too_late(
    here: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    far_away(here, latency=600, timeout=0.1)
    monkeypatch.setattr(here, "database", Database("postgresql://nobody@127.0.0.1:1/none"))

    with pytest.raises(DatabaseUnavailable):  # which costs the step no attempt, as StepUnavailable would
        payment_provider().capture("key", "order-1", Decimal(1200), "credit_card")


def test_a_process_that_stops_waits_for_no_answer(here: Runtime) -> None:
    far_away(here, latency=600, timeout=600)
    ended = threading.Event()

    def book() -> None:
        with pytest.raises(StepUnavailable, match="stopping"):
            carrier().book("key", "order-1", "1 Main Street")
        ended.set()

    waiting = threading.Thread(target=book)
    waiting.start()
    here.stopping.set()

    waiting.join(60)
    assert ended.is_set()
