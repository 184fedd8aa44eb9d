"""The requests as seeds 001, 002 and 004 write them."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.testkit.web import BROWSES, fields_of, get, post, stock

SEED_001 = {"orderId": "order-123", "productId": "item-001", "quantity": 2, "amount": 1000}
SEED_002 = {"customerId": "customer-001", "bookId": "book-123", "quantity": 1, "price": 3500}
SEED_004 = {"productId": "item-001", "quantity": 2, "amount": 1000}


def states(shown: dict[str, Any]) -> str:
    """Return the states that a saga went through, in order."""
    history = shown["stateHistory"]
    assert history == sorted(history, key=lambda reached: reached["at"])
    return " ".join(reached["state"] for reached in history)


@pytest.mark.parametrize("body", [SEED_002, SEED_004])
def test_the_seeds_orders_are_choreographed(client: FlaskClient, body: dict[str, Any]) -> None:
    response = client.post("/orders", json=body)

    answer = response.get_json()
    assert (response.status_code, answer["status"]) == (202, "pending")
    assert set(answer) == {"orderId", "sagaId", "status", "message"}
    assert response.headers["Location"] == f"/orders/{answer['orderId']}"
    saga = get(client, f"/api/v1/sagas/{answer['sagaId']}")
    assert (saga["saga_type"], saga["status"]) == ("order-choreography", "completed")


def test_an_order_is_shown_in_camel_case_or_as_a_page_to_who_browses(client: FlaskClient) -> None:
    placed = post(client, "/orders", SEED_002)
    path = f"/orders/{placed['orderId']}"

    shown = get(client, path)
    fetched, browsed = client.get(path, headers={"Accept": "*/*"}), client.get(path, headers=BROWSES)
    listed = client.get("/orders", headers=BROWSES)

    assert (shown["orderId"], shown["sagaId"]) == (placed["orderId"], placed["sagaId"])
    assert (shown["customerId"], shown["status"], shown["totalAmount"]) == ("customer-001", "completed", 3500)
    title = "クラウド設計パターン集"
    assert shown["items"] == [{"bookId": "book-123", "title": title, "quantity": 1, "unitPrice": 3500}]
    assert shown["payment"]["transactionId"]
    assert shown["shipment"]["trackingNumber"]
    assert not [name for name in shown if "_" in name]
    assert (fetched.status_code, fetched.get_json()) == (200, shown)
    assert (browsed.status_code, browsed.headers["Location"]) == (303, f"/sagas/{placed['sagaId']}")
    assert (listed.status_code, listed.headers["Location"]) == (303, "/sagas")
    assert all("Accept" in answer.headers["Vary"] for answer in (browsed, fetched))


def test_everything_an_order_may_say_can_be_said_in_camel_case(client: FlaskClient) -> None:
    said = {"paymentMethod": "e_money", "shippingAddress": "Elsewhere 2", "orderId": "mine"}
    post(client, "/orders", {**SEED_002, **said, "amount": 3500, "simulate": {"shipping": "decline"}})

    shown = get(client, "/orders/mine")
    assert said.items() <= shown.items()
    assert [of["status"] for of in (shown, shown["payment"], shown["shipment"])] == ["cancelled", "refunded", "failed"]


def test_orders_are_listed_changed_and_cancelled(client: FlaskClient, no_messages: None) -> None:
    first, second = (post(client, "/orders", SEED_002)["orderId"] for _ in range(2))
    post(client, "/orders", SEED_004)

    page = get(client, "/orders?customerId=customer-001&limit=1")
    rest = get(client, f"/orders?customerId=customer-001&cursor={page['nextCursor']}")
    snake = client.patch(f"/orders/{first}", json={"shipping_address": "x"})
    changed = client.patch(f"/orders/{first}", json={"shippingAddress": "Elsewhere 2"})
    cancelled = client.delete(f"/orders/{first}")

    assert [order["orderId"] for order in page["orders"] + rest["orders"]] == [second, first]
    assert rest["nextCursor"] is None
    assert set(fields_of(snake.get_json())) == {"shippingAddress", "shipping_address"}
    assert fields_of(get(client, "/orders?customer_id=customer-001", 422)) == ["customer_id"]
    assert (changed.status_code, changed.get_json()["shippingAddress"]) == (200, "Elsewhere 2")
    assert (cancelled.status_code, cancelled.get_json()["orderId"]) == (202, first)
    assert "OrderCancelRequested" in [event["eventType"] for event in get(client, f"/orders/{first}/events")["events"]]


def test_events_are_told_in_the_flat_form_of_seeds_002_and_004(client: FlaskClient) -> None:
    items = [{"book_id": book_id, "quantity": 1} for book_id in ("book-123", "book-789")]
    order_id = post(client, "/orders", SEED_002)["orderId"]
    sold_out = post(client, "/orders", {"bookId": "book-456", "quantity": 1})["orderId"]
    of_several = post(client, "/api/v1/orders", {"items": items})["order_id"]

    def told(order_id: str) -> dict[str, dict[str, Any]]:
        events = get(client, f"/orders/{order_id}/events")["events"]
        assert [event.pop("sequence") for event in events] == list(range(1, len(events) + 1))
        assert all(event.pop("timestamp").endswith("Z") for event in events)
        return {event.pop("eventType"): event for event in events}

    events = told(order_id)
    book = {"orderId": order_id, "bookId": "book-123", "productId": "book-123", "quantity": 1}
    assert events["OrderCreated"] == book | {"customerId": "customer-001", "amount": 3500, "totalAmount": 3500}
    assert events["StockReserved"] == book
    assert events["PaymentCompleted"] == {"orderId": order_id, "amount": 3500}
    assert events["ShippingArranged"] == {"orderId": order_id}
    unavailable = told(sold_out)["StockUnavailable"]
    assert (unavailable["productId"], unavailable["quantity"]) == ("book-456", 1)
    assert unavailable["reason"] == "book-456: 1 wanted, 0 available"
    created = told(of_several)["OrderCreated"]
    assert "bookId" not in created
    assert [item["productId"] for item in created["items"]] == ["book-123", "book-789"]


def test_seed_001s_saga_takes_the_money_first(client: FlaskClient) -> None:
    response = client.post("/saga/start", json=SEED_001)
    shown = get(client, "/saga/order-123/status")

    answer = response.get_json()
    assert (response.status_code, answer["orderId"]) == (202, "order-123")
    assert set(answer) == {"orderId", "sagaId", "status", "message"}
    assert response.headers["Location"] == "/saga/order-123/status"
    assert states(shown) == "STARTED ORDER_CREATED PAYMENT_PROCESSED STOCK_RESERVED SHIPPED COMPLETED"
    told = {"sagaId": answer["sagaId"], "orderId": "order-123", "sagaType": "order-payment-first"}
    told |= {"status": "completed", "state": "COMPLETED", "stateHistory": shown["stateHistory"]}
    unsaid = ("cancelRequestedAt", "cancelDecision", "cancelReason", "currentStep", "error")
    assert shown == told | dict.fromkeys(unsaid)


def test_a_saga_that_is_started_again_is_the_same_and_a_key_is_known_again(client: FlaskClient) -> None:
    first = post(client, "/saga/start", SEED_001)
    headers = {"Idempotency-Key": "once"}
    answers = [client.post("/orders", json=SEED_004, headers=headers).get_json() for _ in range(2)]
    other = client.post("/orders", json=SEED_002, headers=headers)

    assert answers[0] == answers[1]
    assert (other.status_code, fields_of(other.get_json())) == (422, ["Idempotency-Key"])
    assert post(client, "/saga/start", SEED_001) == first
    assert fields_of(post(client, "/saga/start", {**SEED_001, "quantity": 1, "amount": 500}, 422)) == ["orderId"]
    assert stock(client, "item-001")["available_stock"] == 996
    assert client.post("/saga/order-123/cancel").status_code == 409  # it is completed


def test_an_undone_saga_tells_states_and_every_steps_reply_in_seed_001s_form(client: FlaskClient) -> None:
    placed = post(client, "/saga/start", {**SEED_001, "simulate": {"shipping": "timeout"}})

    shown, told = get(client, "/saga/order-123/status"), get(client, "/saga/order-123/history")

    done = ["create_order", "process_payment", "reserve_stock"]
    assert (shown["status"], shown["state"]) == ("compensated", "FAILED")
    assert (told["sagaId"], told["orderId"], told["states"]) == (placed["sagaId"], "order-123", shown["stateHistory"])
    assert states(shown) == (
        "STARTED ORDER_CREATED PAYMENT_PROCESSED STOCK_RESERVED"
        " SHIPMENT_CANCELLED STOCK_RELEASED PAYMENT_CANCELLED ORDER_CANCELLED FAILED"
    )
    assert {step["sagaId"] for step in told["steps"]} == {placed["sagaId"]}
    assert [(step["stepId"], step["operation"], step["success"]) for step in told["steps"]] == [
        *((step, "action", True) for step in done),
        ("arrange_shipping", "action", False),
        *((step, "compensation", True) for step in ("arrange_shipping", *done[::-1])),
    ]
    paid, refused = told["steps"][1], told["steps"][3]
    assert (paid["result"]["amount"], paid["error"]) == (1000, None)
    assert (refused["status"], refused["retryAttempt"]) == ("failed", 2)
    assert paid["startedAt"] <= paid["completedAt"]


def test_the_step_under_way_has_no_end_yet_and_the_saga_can_be_cancelled(
    client: FlaskClient, no_messages: None
) -> None:
    placed = post(client, "/saga/start", SEED_001)

    assert get(client, "/saga/order-123/status")["currentStep"] == "create_order"
    step = get(client, "/saga/order-123/history")["steps"][0]
    assert (step["stepId"], step["status"], step["success"]) == ("create_order", "running", False)
    assert "completedAt" not in step
    answer = post(client, "/saga/order-123/cancel", None)
    assert answer.pop("cancelRequestedAt")
    assert answer == {
        "orderId": "order-123",
        "sagaId": placed["sagaId"],
        "status": "compensating",
        "cancelDecision": "undone",
        "cancelReason": "it was requested before the point of no return",
    }
