"""The seeds' scenarios, in every kind of saga, on every stack."""

from typing import Any

import pytest

from tests.testkit.shop import ENDED, Shop

ORCHESTRATED = ("order", "order-payment-first")
SAGA_TYPES = (*ORCHESTRATED, "order-choreography")

CREATED, RESERVED, PAID = "ORDER_CREATED", "STOCK_RESERVED", "PAYMENT_COMPLETED"
TURNED_BACK = ["COMPENSATION_STARTED", "FAILED"]

# not on the eager stack: there nothing else runs while a service hangs, and an order has ended before it is cancelled
on_hasty_stacks = pytest.mark.parametrize(
    "shop", ["memory-hasty", "postgresql+rabbitmq-hasty", "postgresql+redis-hasty"], indirect=True
)
"""The orders of these hang until a deadline passes; others would miss the same deadlines on a slow machine."""


def states(saga: dict[str, Any]) -> list[str]:
    return [entry["state"] for entry in saga["state_history"]]


def money(shop: Shop, order_id: str) -> list[str]:
    """Return what the provider did for an order, in order."""
    rows = shop.rows(
        "SELECT kind FROM payment_provider_ledger WHERE order_id = :id AND kind <> 'void' ORDER BY kind", id=order_id
    )
    return [kind for (kind,) in rows]


def bookings(shop: Shop, order_id: str) -> list[str]:
    """Return what the carrier did for an order."""
    rows = shop.rows(
        "SELECT kind FROM carrier_ledger WHERE order_id = :id AND kind <> 'void' ORDER BY kind", id=order_id
    )
    return [kind for (kind,) in rows]


def assert_completed(shop: Shop, placed: dict[str, Any], saga: dict[str, Any]) -> None:
    assert saga["status"] == "completed", saga
    order = shop.get(f"/api/v1/orders/{placed['order_id']}").body
    assert order["status"] == "completed"
    assert money(shop, placed["order_id"]) == ["capture"]
    assert bookings(shop, placed["order_id"]) == ["book"]
    assert shop.violations() == []


def assert_undone(shop: Shop, placed: dict[str, Any], saga: dict[str, Any], *, charged: bool = False) -> None:
    assert saga["status"] == "compensated", saga
    order = shop.get(f"/api/v1/orders/{placed['order_id']}").body
    assert order["status"] == "cancelled"
    if saga["saga_type"] != "order-choreography" or charged:
        # a choreographed charge may or may not have been made before the failure was known; it nets out either way
        assert money(shop, placed["order_id"]) == (["capture", "refund"] if charged else [])
    assert bookings(shop, placed["order_id"]) == []
    assert shop.violations() == []


@pytest.mark.parametrize(
    ("saga_type", "history"),
    [
        ("order", ["STARTED", CREATED, RESERVED, PAID, "COMPLETED"]),
        ("order-payment-first", ["STARTED", CREATED, PAID, RESERVED, "COMPLETED"]),
        ("order-choreography", ["STARTED", CREATED, "COMPLETED"]),
    ],
)
def test_success(shop: Shop, saga_type: str, history: list[str]) -> None:
    book = shop.add_book(stock=5)

    placed = shop.order(book, 2, saga_type=saga_type)
    saga = shop.settle(placed["saga_id"])

    assert_completed(shop, placed, saga)
    assert states(saga) == history
    assert shop.stock(book) == (3, 0)


@pytest.mark.parametrize("saga_type", SAGA_TYPES)
def test_several_items_are_reserved_together_or_not_at_all(shop: Shop, saga_type: str) -> None:
    plenty, scarce = shop.add_book(stock=10), shop.add_book(stock=1)
    items = [{"product_id": plenty, "quantity": 3}, {"product_id": scarce, "quantity": 2}]

    answer = shop.post("/api/v1/orders", {"items": items, "saga_type": saga_type})
    saga = shop.settle(answer.body["saga_id"])

    assert saga["status"] == "compensated"
    assert shop.stock(plenty) == (10, 0)
    assert shop.stock(scarce) == (1, 0)
    assert shop.violations() == []


@pytest.mark.parametrize(
    ("saga_type", "history"),
    [
        ("order", ["STARTED", CREATED, *TURNED_BACK]),
        ("order-payment-first", ["STARTED", CREATED, PAID, *TURNED_BACK]),
        ("order-choreography", ["STARTED", CREATED, *TURNED_BACK]),
    ],
)
def test_out_of_stock(shop: Shop, saga_type: str, history: list[str]) -> None:
    placed = shop.order("book-456", saga_type=saga_type)
    saga = shop.settle(placed["saga_id"])

    assert_undone(shop, placed, saga, charged=saga_type == "order-payment-first")
    assert states(saga) == history
    assert "StockUnavailable" in shop.events(placed["order_id"])
    assert shop.stock("book-456") == (0, 0)


@pytest.mark.parametrize(
    ("saga_type", "history"),
    [
        ("order", ["STARTED", CREATED, RESERVED, *TURNED_BACK]),
        ("order-payment-first", ["STARTED", CREATED, *TURNED_BACK]),
        ("order-choreography", ["STARTED", CREATED, *TURNED_BACK]),
    ],
)
def test_payment_declined(shop: Shop, saga_type: str, history: list[str]) -> None:
    book = shop.add_book(stock=4)

    placed = shop.order(book, saga_type=saga_type, simulate={"payments": "decline"})
    saga = shop.settle(placed["saga_id"])

    assert_undone(shop, placed, saga)
    assert states(saga) == history
    assert "PaymentFailed" in shop.events(placed["order_id"])
    assert shop.stock(book) == (4, 0)


@pytest.mark.parametrize("saga_type", SAGA_TYPES)
def test_an_order_of_999999_is_declined(shop: Shop, saga_type: str) -> None:
    placed = shop.order("book-999999", saga_type=saga_type)
    saga = shop.settle(placed["saga_id"])

    assert_undone(shop, placed, saga)
    assert shop.stock("book-999999") == (10, 0)


@pytest.mark.parametrize(
    ("saga_type", "history"),
    [
        ("order", ["STARTED", CREATED, RESERVED, PAID, *TURNED_BACK]),
        ("order-payment-first", ["STARTED", CREATED, PAID, RESERVED, *TURNED_BACK]),
        ("order-choreography", ["STARTED", CREATED, *TURNED_BACK]),
    ],
)
def test_carrier_failure(shop: Shop, saga_type: str, history: list[str]) -> None:
    book = shop.add_book(stock=4)

    placed = shop.order(book, saga_type=saga_type, simulate={"shipping": "decline"})
    saga = shop.settle(placed["saga_id"])

    assert_undone(shop, placed, saga, charged=True)
    assert states(saga) == history
    assert {"ShippingFailed", "PaymentRefunded", "StockReleased", "OrderCancelled"} <= set(
        shop.events(placed["order_id"])
    )
    assert shop.stock(book) == (4, 0)


def test_compensation_runs_in_reverse_with_the_failing_step_first(shop: Shop) -> None:
    book = shop.add_book(stock=4)

    placed = shop.order(book, simulate={"shipping": "decline"})
    shop.settle(placed["saga_id"])

    history = shop.get(f"/api/v1/sagas/{placed['saga_id']}/history").body["history"]
    undone = [entry["step_name"] for entry in history if entry["operation"] == "compensation"]
    assert undone == ["arrange_shipping", "process_payment", "reserve_stock", "create_order"]


@pytest.mark.parametrize("saga_type", SAGA_TYPES)
def test_transient_faults_are_retried(shop: Shop, saga_type: str) -> None:
    book = shop.add_book(stock=4)

    placed = shop.order(book, saga_type=saga_type, simulate={"inventory": "fail:2", "payments": "fail:1"})
    saga = shop.settle(placed["saga_id"])

    assert_completed(shop, placed, saga)
    history = shop.get(f"/api/v1/sagas/{placed['saga_id']}/history").body["history"]
    retries = {entry["step_name"]: entry["retry_attempt"] for entry in history}
    assert (retries["reserve_stock"], retries["process_payment"], retries["arrange_shipping"]) == (2, 1, 0)


@pytest.mark.parametrize("saga_type", SAGA_TYPES)
@pytest.mark.parametrize("service", ["payments", "shipping"])
def test_a_gateway_whose_answers_are_lost_is_voided(shop: Shop, saga_type: str, service: str) -> None:
    book = shop.add_book(stock=4)

    placed = shop.order(book, saga_type=saga_type, simulate={service: "timeout"})
    saga = shop.settle(placed["saga_id"])

    assert saga["status"] == "compensated", saga
    if service == "shipping":
        assert bookings(shop, placed["order_id"]) == ["book", "cancel"]
    assert money(shop, placed["order_id"]) == ["capture", "refund"]
    assert shop.stock(book) == (4, 0)
    assert shop.violations() == []


@pytest.mark.parametrize("saga_type", SAGA_TYPES)
def test_a_compensation_is_retried_until_it_is_done(shop: Shop, saga_type: str) -> None:
    book = shop.add_book(stock=4)

    placed = shop.order(book, saga_type=saga_type, simulate={"shipping": "decline", "payments": "undo-fail:2"})
    saga = shop.settle(placed["saga_id"])

    assert_undone(shop, placed, saga, charged=True)


def test_a_compensation_out_of_retries_is_stuck_until_it_is_resumed(shop: Shop) -> None:
    book = shop.add_book(stock=4)

    # seven attempts a round, over some ten seconds: the first round fails, the second succeeds at its second attempt;
    # of all three kinds at once, so that they wait together
    simulate = {"shipping": "decline", "payments": "undo-fail:8"}
    orders = [shop.order(book, saga_type=saga_type, simulate=simulate) for saga_type in SAGA_TYPES]
    for placed in orders:
        saga = shop.settle(placed["saga_id"])
        assert saga["status"] == "stuck", saga
        assert "refund" in saga["error"]

    for placed in orders:
        answer = shop.post(f"/api/v1/sagas/{placed['saga_id']}/resume")
        assert answer.status == 202, answer
        assert_undone(shop, placed, shop.settle(placed["saga_id"]), charged=True)


@on_hasty_stacks
@pytest.mark.parametrize("saga_type", SAGA_TYPES)
@pytest.mark.parametrize("service", ["inventory", "payments", "shipping"])
def test_a_service_that_hangs_is_undone_at_its_deadline(shop: Shop, saga_type: str, service: str) -> None:
    book = shop.add_book(stock=4)

    placed = shop.order(book, saga_type=saga_type, simulate={service: "hang"})
    saga = shop.settle(placed["saga_id"])

    if (saga_type, service) == ("order-choreography", "shipping") and saga["status"] == "completed":
        # only shipping decides about the point of no return: all its workers hung, and booked when they were back
        assert shop.stock(book) == (3, 0)
    else:
        assert saga["status"] == "compensated", saga
        assert shop.stock(book) == (4, 0)
    assert shop.violations() == []


@pytest.mark.parametrize("saga_type", SAGA_TYPES)
def test_the_customer_is_told_how_it_ended(shop: Shop, saga_type: str) -> None:
    placed = shop.order("book-456", saga_type=saga_type)
    shop.settle(placed["saga_id"])

    query = "SELECT kind FROM notifications WHERE order_id = :id"
    told = shop.wait_for(lambda: shop.rows(query, id=placed["order_id"]), bool)
    assert told == [("OrderCancelled",)]


@on_hasty_stacks
@pytest.mark.parametrize("saga_type", SAGA_TYPES)
def test_an_order_under_way_can_be_cancelled(shop: Shop, saga_type: str) -> None:
    book = shop.add_book(stock=4)

    placed = shop.wait_for(lambda: cancelled_under_way(shop, book, saga_type), bool)

    saga = shop.settle(placed["saga_id"])
    assert_undone(shop, placed, saga)
    assert shop.stock(book) == (4, 0)


def cancelled_under_way(shop: Shop, book: str, saga_type: str) -> dict[str, Any] | None:
    """Place an order that hangs and cancel it; return None, once it has ended, if its deadline passed before that."""
    reserved = saga_type != "order-payment-first"
    placed = shop.order(book, saga_type=saga_type, simulate={"payments": "hang"})
    shop.wait_for(
        lambda: (shop.stock(book), shop.saga(placed["saga_id"])),
        lambda seen: seen[0] == (3, 1) or not reserved or seen[1]["status"] in ENDED,
    )
    answer = shop.post(f"/api/v1/sagas/{placed['saga_id']}/cancel")
    if answer.status == 202:
        return placed
    late = shop.settle(placed["saga_id"])
    assert (answer.status, late["status"]) == (409, "compensated"), answer
    return None


@pytest.mark.parametrize("saga_type", SAGA_TYPES)
def test_a_completed_order_can_not_be_cancelled(shop: Shop, saga_type: str) -> None:
    placed = shop.order(shop.add_book(stock=1), saga_type=saga_type)
    shop.settle(placed["saga_id"])

    answer = shop.post(f"/api/v1/sagas/{placed['saga_id']}/cancel")

    assert answer.status == 409
    assert "point of no return" in answer.body["detail"]


def test_the_last_copy_is_sold_once(shop: Shop) -> None:
    book = shop.add_book(stock=1)

    placed = [shop.order(book, saga_type=saga_type) for saga_type in SAGA_TYPES * 2]
    ended = [shop.settle(order["saga_id"])["status"] for order in placed]

    assert sorted(ended) == ["compensated"] * 5 + ["completed"]
    assert shop.stock(book) == (0, 0)
    assert shop.violations() == []
