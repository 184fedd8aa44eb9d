"""The seeds' scenarios, in every kind of saga, on every stack; all orders of a stack are under way at the same time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import Any

import pytest

from tests.testkit.shop import ENDED, Shop

SAGA_TYPES = ("order", "order-payment-first", "order-choreography")

CREATED, RESERVED, PAID, SHIPPED = "ORDER_CREATED", "STOCK_RESERVED", "PAYMENT_COMPLETED", "SHIPPED"
PASSED = {"order": [RESERVED, PAID], "order-payment-first": [PAID, RESERVED], "order-choreography": []}
"""Which states a saga of each type passes between its creation and its end."""

TURNED_BACK = ["COMPENSATION_STARTED", "FAILED"]
STOCK = 4
UNDONE = {"ShippingFailed", "PaymentRefunded", "StockReleased", "OrderCancelled"}

# not on the eager stack: there nothing else runs while a service hangs, and an order has ended before it is cancelled
on_hasty_stacks = pytest.mark.parametrize("shop", ["memory-hasty", "postgresql+rabbitmq-hasty"], indirect=True)
"""The orders of these hang until a deadline passes; others would miss the same deadlines on a slow machine."""


@dataclass(frozen=True)
class Case:
    """An order, and what comes of it in every kind of saga."""

    fails_at: str | None = None
    """The state that is not reached; an order without one completes."""
    simulate: dict[str, str] = field(default_factory=dict)
    quantity: int = 1
    book: str | None = None
    """One of the seeds' books, with which it must fail; otherwise one of its own."""
    events: frozenset[str] = frozenset()
    bookings: Sequence[str] = ()
    """What the carrier did, where the order fails."""
    charge_is_known: bool = False
    """Whether also a choreographed order that fails was charged for sure: what else of it runs beside the failure."""


CASES = {
    "success": Case(quantity=2),
    "transient faults are retried": Case(simulate={"inventory": "fail:2", "payments": "fail:1"}),
    "out of stock": Case(RESERVED, book="book-456", events=frozenset({"StockUnavailable"})),
    "payment declined": Case(PAID, {"payments": "decline"}, events=frozenset({"PaymentFailed"})),
    "an amount of 999999": Case(PAID, book="book-999999"),
    "carrier failure": Case(SHIPPED, {"shipping": "decline"}, events=frozenset(UNDONE), charge_is_known=True),
    "undo is retried": Case(SHIPPED, {"shipping": "decline", "payments": "undo-fail:2"}, charge_is_known=True),
    "carrier's answers are lost": Case(
        SHIPPED, {"shipping": "timeout"}, bookings=["book", "cancel"], charge_is_known=True
    ),
}


@dataclass(frozen=True)
class Played:
    """One order that has ended."""

    placed: dict[str, Any]
    book: str
    saga: dict[str, Any]


@pytest.fixture(scope="module")
def unlucky(shop: Shop) -> list[dict[str, Any]]:
    """An order of each type whose refund fails for longer than it is retried: seven attempts, over some ten seconds.

    Placed early, so that nobody waits for them. The next round succeeds at its second attempt.
    """
    book, simulate = shop.add_book(STOCK), {"shipping": "decline", "payments": "undo-fail:8"}
    return [{"book": book, **shop.order(book, saga_type=kind, simulate=simulate)} for kind in SAGA_TYPES]


@pytest.fixture(scope="module")
def played(shop: Shop, unlucky: list[dict[str, Any]]) -> dict[tuple[str, str], Played]:
    """Every case in every kind of saga."""
    books = {(name, kind): case.book or shop.add_book(STOCK) for name, case in CASES.items() for kind in SAGA_TYPES}
    placed = {
        (name, kind): shop.order(book, CASES[name].quantity, saga_type=kind, simulate=CASES[name].simulate)
        for (name, kind), book in books.items()
    }
    return {key: Played(order, books[key], shop.settle(order["saga_id"])) for key, order in placed.items()}


def ledger(shop: Shop, name: str, order_id: str) -> list[str]:
    """Return what a gateway did for an order."""
    rows = shop.rows(f"SELECT kind FROM {name} WHERE order_id = :id AND kind <> 'void' ORDER BY kind", id=order_id)
    return [kind for (kind,) in rows]


def money(shop: Shop, order_id: str) -> list[str]:
    return ledger(shop, "payment_provider_ledger", order_id)


@pytest.mark.parametrize("saga_type", SAGA_TYPES)
@pytest.mark.parametrize("name", CASES)
def test_an_order_ends_as_its_scenario_says(
    shop: Shop, played: dict[tuple[str, str], Played], name: str, saga_type: str
) -> None:
    case, one = CASES[name], played[name, saga_type]
    order_id, saga = one.placed["order_id"], one.saga
    passed = list(takewhile(lambda state: state != case.fails_at, PASSED[saga_type]))
    status = shop.get(f"/api/v1/orders/{order_id}").body["status"]
    bookings = ledger(shop, "carrier_ledger", order_id)

    assert saga["status"] == ("compensated" if case.fails_at else "completed"), saga
    ended = TURNED_BACK if case.fails_at else ["COMPLETED"]
    assert [entry["state"] for entry in saga["state_history"]] == ["STARTED", CREATED, *passed, *ended]
    assert case.events <= set(shop.events(order_id))
    if case.fails_at:
        assert (status, bookings) == ("cancelled", list(case.bookings))
        if saga_type != "order-choreography" or case.charge_is_known:
            charged = PAID in passed or case.charge_is_known
            assert money(shop, order_id) == (["capture", "refund"] if charged else [])
    else:
        assert (status, money(shop, order_id), bookings) == ("completed", ["capture"], ["book"])
    seeds = {"book-456": 0, "book-999999": 10}
    left = STOCK - (0 if case.fails_at else case.quantity)
    assert shop.stock(one.book) == (seeds.get(one.book, left), 0)


def test_what_was_played_leaves_history_notices_and_a_clean_audit(
    shop: Shop, played: dict[tuple[str, str], Played]
) -> None:
    def history(name: str, saga_type: str) -> list[dict[str, Any]]:
        path = f"/api/v1/sagas/{played[name, saga_type].placed['saga_id']}/history"
        return list(shop.get(path).body["history"])

    undone = [entry["step_name"] for entry in history("carrier failure", "order") if entry["operation"] != "action"]
    assert undone == ["arrange_shipping", "process_payment", "reserve_stock", "create_order"]  # the failing one first
    for saga_type in SAGA_TYPES:
        retried = history("transient faults are retried", saga_type)
        retries = {entry["step_name"]: entry["retry_attempt"] for entry in retried}
        assert (retries["reserve_stock"], retries["process_payment"], retries["arrange_shipping"]) == (2, 1, 0)

        order_id = played["out of stock", saga_type].placed["order_id"]
        told = shop.wait_for(
            partial(shop.rows, "SELECT kind FROM notifications WHERE order_id = :id", id=order_id), bool
        )
        assert told == [("OrderCancelled",)]

        answer = shop.post(f"/api/v1/sagas/{played['success', saga_type].placed['saga_id']}/cancel")
        assert answer.status == 409
        assert "point of no return" in answer.body["detail"]
    assert shop.violations() == []


def test_a_payment_whose_answers_are_lost_is_voided(shop: Shop) -> None:
    book = shop.add_book(STOCK)

    placed = [shop.order(book, saga_type=kind, simulate={"payments": "timeout"}) for kind in SAGA_TYPES]

    assert {shop.settle(order["saga_id"])["status"] for order in placed} == {"compensated"}
    assert [money(shop, order["order_id"]) for order in placed] == [["capture", "refund"]] * 3
    assert shop.stock(book) == (STOCK, 0)
    assert shop.violations() == []


def test_several_items_are_reserved_together_or_not_at_all(shop: Shop) -> None:
    plenty, scarce = shop.add_book(stock=10), shop.add_book(stock=1)
    items = [{"product_id": plenty, "quantity": 3}, {"product_id": scarce, "quantity": 2}]

    answers = [shop.post("/api/v1/orders", {"items": items, "saga_type": kind}).body for kind in SAGA_TYPES]

    assert {shop.settle(answer["saga_id"])["status"] for answer in answers} == {"compensated"}
    assert (shop.stock(plenty), shop.stock(scarce)) == ((10, 0), (1, 0))
    assert shop.violations() == []


def test_the_last_copy_is_sold_once(shop: Shop) -> None:
    book = shop.add_book(stock=1)

    placed = [shop.order(book, saga_type=saga_type) for saga_type in SAGA_TYPES * 2]
    ended = [shop.settle(order["saga_id"])["status"] for order in placed]

    assert sorted(ended) == ["compensated"] * 5 + ["completed"]
    assert shop.stock(book) == (0, 0)
    assert shop.violations() == []


def test_a_compensation_out_of_retries_is_stuck_until_it_is_resumed(shop: Shop, unlucky: list[dict[str, Any]]) -> None:
    for placed in unlucky:
        saga = shop.settle(placed["saga_id"])
        assert saga["status"] == "stuck", saga
        assert "refund" in saga["error"]

    for placed in unlucky:
        answer = shop.post(f"/api/v1/sagas/{placed['saga_id']}/resume")
        assert answer.status == 202, answer
    assert {shop.settle(placed["saga_id"])["status"] for placed in unlucky} == {"compensated"}
    assert [money(shop, placed["order_id"]) for placed in unlucky] == [["capture", "refund"]] * 3
    assert shop.stock(unlucky[0]["book"]) == (STOCK, 0)
    assert shop.violations() == []


@on_hasty_stacks
def test_a_service_that_hangs_is_undone_at_its_deadline(shop: Shop) -> None:
    cases = [(kind, service) for service in ("inventory", "payments", "shipping") for kind in SAGA_TYPES]
    books = [shop.add_book(STOCK) for _ in cases]

    placed = [
        shop.order(book, saga_type=kind, simulate={service: "hang"})
        for book, (kind, service) in zip(books, cases, strict=True)
    ]

    for book, case, order in zip(books, cases, placed, strict=True):
        saga = shop.settle(order["saga_id"])
        if case == ("order-choreography", "shipping") and saga["status"] == "completed":
            # only shipping decides about the point of no return: all its workers hung, and booked when they were back
            assert shop.stock(book) == (STOCK - 1, 0)
        else:
            assert saga["status"] == "compensated", saga
            assert shop.stock(book) == (STOCK, 0)
    assert shop.violations() == []


@on_hasty_stacks
@pytest.mark.parametrize("saga_type", SAGA_TYPES)
def test_an_order_under_way_can_be_cancelled(shop: Shop, saga_type: str) -> None:
    book = shop.add_book(STOCK)

    placed = shop.wait_for(lambda: cancelled_under_way(shop, book, saga_type), bool)

    assert shop.settle(placed["saga_id"])["status"] == "compensated"
    assert shop.stock(book) == (STOCK, 0)
    assert shop.violations() == []


def cancelled_under_way(shop: Shop, book: str, saga_type: str) -> dict[str, Any] | None:
    """Place an order that hangs and cancel it; return None, once it has ended, if its deadline passed before that."""
    reserved = saga_type != "order-payment-first"
    placed = shop.order(book, saga_type=saga_type, simulate={"payments": "hang"})
    shop.wait_for(
        lambda: (shop.stock(book), shop.saga(placed["saga_id"])),
        lambda seen: seen[0] == (STOCK - 1, 1) or not reserved or seen[1]["status"] in ENDED,
    )
    answer = shop.post(f"/api/v1/sagas/{placed['saga_id']}/cancel")
    if answer.status == 202:
        return placed
    late = shop.settle(placed["saga_id"])
    assert (answer.status, late["status"]) == (409, "compensated"), answer
    return None
