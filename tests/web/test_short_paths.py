"""The requests as seeds 001, 002 and 004 write them."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.web.conftest import get, post, stock

SEED_001 = {"orderId": "order-123", "productId": "item-001", "quantity": 2, "amount": 1000}
SEED_002 = {"customerId": "customer-001", "bookId": "book-123", "quantity": 1, "price": 3500}
SEED_004 = {"productId": "item-001", "quantity": 2, "amount": 1000}
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.mark.parametrize("body", [SEED_002, SEED_004])
def test_the_seeds_orders_are_choreographed(client: FlaskClient, body: dict[str, Any]) -> None:
    response = client.post("/orders", json=body)

    assert response.status_code == 202
    answer = response.get_json()
    assert set(answer) == {"orderId", "sagaId", "status", "message"}
    assert answer["status"] == "pending"
    assert response.headers["Location"] == f"/orders/{answer['orderId']}"
    saga = get(client, f"/api/v1/sagas/{answer['sagaId']}")
    assert (saga["saga_type"], saga["status"]) == ("order-choreography", "completed")


def test_an_order_is_shown_in_camel_case(client: FlaskClient) -> None:
    placed = post(client, "/orders", SEED_002)

    shown = get(client, f"/orders/{placed['orderId']}")

    assert (shown["orderId"], shown["sagaId"]) == (placed["orderId"], placed["sagaId"])
    assert (shown["customerId"], shown["status"], shown["totalAmount"]) == ("customer-001", "completed", 3500)
    assert shown["items"] == [
        {"bookId": "book-123", "title": "クラウド設計パターン集", "quantity": 1, "unitPrice": 3500}
    ]
    assert shown["payment"]["transactionId"]
    assert shown["shipment"]["trackingNumber"]
    assert not [name for name in shown if "_" in name]


def test_everything_an_order_may_say_can_be_said_in_camel_case(client: FlaskClient) -> None:
    body = {
        **SEED_002,
        "amount": 3500,
        "orderId": "mine",
        "paymentMethod": "e_money",
        "shippingAddress": "Elsewhere 2",
        "simulate": {"shipping": "decline"},
    }

    assert post(client, "/orders", body)["orderId"] == "mine"

    shown = get(client, "/orders/mine")
    assert (shown["paymentMethod"], shown["shippingAddress"]) == ("e_money", "Elsewhere 2")
    assert (shown["status"], shown["payment"]["status"], shown["shipment"]["status"]) == (
        "cancelled",
        "refunded",
        "failed",
    )


def test_somebody_who_browses_an_order_is_sent_to_its_page(client: FlaskClient) -> None:
    placed = post(client, "/orders", SEED_002)

    browsed = client.get(f"/orders/{placed['orderId']}", headers=BROWSER)
    fetched = client.get(f"/orders/{placed['orderId']}", headers={"Accept": "*/*"})

    assert (browsed.status_code, browsed.headers["Location"]) == (303, f"/sagas/{placed['sagaId']}")
    assert (fetched.status_code, fetched.mimetype) == (200, "application/json")
    assert "Accept" in browsed.headers["Vary"]
    assert "Accept" in fetched.headers["Vary"]


def test_seed_001s_saga_takes_the_money_first(client: FlaskClient) -> None:
    response = client.post("/saga/start", json=SEED_001)

    assert response.status_code == 202
    answer = response.get_json()
    assert answer["orderId"] == "order-123"
    assert set(answer) == {"orderId", "sagaId", "status", "message"}
    assert response.headers["Location"] == "/saga/order-123/status"
    assert get(client, "/saga/order-123/status") | {"stateHistory": None} == {
        "sagaId": answer["sagaId"],
        "orderId": "order-123",
        "sagaType": "order-payment-first",
        "status": "completed",
        "state": "COMPLETED",
        "currentStep": None,
        "stateHistory": None,
        "error": None,
    }


def test_a_saga_that_is_started_again_is_the_same(client: FlaskClient) -> None:
    first = post(client, "/saga/start", SEED_001)

    assert post(client, "/saga/start", SEED_001) == first

    other = post(client, "/saga/start", {**SEED_001, "quantity": 1, "amount": 500}, 422)
    assert [error["field"] for error in other["errors"]] == ["orderId"]
    assert stock(client, "item-001")["available_stock"] == 998


def test_a_key_is_known_again_on_the_short_paths_too(client: FlaskClient) -> None:
    headers = {"Idempotency-Key": "once"}

    answers = [client.post("/orders", json=SEED_004, headers=headers).get_json() for _ in range(2)]
    other = client.post("/orders", json=SEED_002, headers=headers)

    assert answers[0] == answers[1]
    assert (other.status_code, other.get_json()["errors"][0]["field"]) == (422, "Idempotency-Key")


def test_the_status_tells_the_states_in_the_order_of_seed_001(client: FlaskClient) -> None:
    post(client, "/saga/start", SEED_001)

    states = [reached["state"] for reached in get(client, "/saga/order-123/status")["stateHistory"]]

    assert states == ["STARTED", "ORDER_CREATED", "PAYMENT_COMPLETED", "STOCK_RESERVED", "COMPLETED"]


def test_the_history_tells_every_steps_reply_in_seed_001s_form(client: FlaskClient) -> None:
    placed = post(client, "/saga/start", {**SEED_001, "simulate": {"inventory": "decline"}})

    told = get(client, "/saga/order-123/history")

    assert (told["sagaId"], told["orderId"]) == (placed["sagaId"], "order-123")
    assert [reached["state"] for reached in told["states"]][-1] == "FAILED"
    assert {step["sagaId"] for step in told["steps"]} == {placed["sagaId"]}
    assert [(step["stepId"], step["operation"], step["success"]) for step in told["steps"]] == [
        ("create_order", "action", True),
        ("process_payment", "action", True),
        ("reserve_stock", "action", False),
        ("reserve_stock", "compensation", True),
        ("process_payment", "compensation", True),
        ("create_order", "compensation", True),
    ]
    paid, refused = told["steps"][1:3]
    assert (paid["result"]["amount"], paid["error"]) == (1000, None)
    assert (refused["error"], refused["status"], refused["retryAttempt"]) == ("declined, as simulated", "failed", 0)
    assert paid["startedAt"] <= paid["completedAt"]


def test_the_step_under_way_has_no_end_yet(client: FlaskClient, no_messages: None) -> None:
    post(client, "/saga/start", SEED_001)

    assert get(client, "/saga/order-123/status")["currentStep"] == "create_order"
    step = get(client, "/saga/order-123/history")["steps"][0]
    assert (step["stepId"], step["status"], step["success"]) == ("create_order", "running", False)
    assert "completedAt" not in step


def test_a_saga_can_be_cancelled_by_its_order(client: FlaskClient, no_messages: None) -> None:
    placed = post(client, "/saga/start", SEED_001)

    response = client.post("/saga/order-123/cancel")

    assert response.status_code == 202
    assert response.get_json() == {"orderId": "order-123", "sagaId": placed["sagaId"], "status": "compensating"}


def test_a_finished_saga_cannot_be_cancelled(client: FlaskClient) -> None:
    post(client, "/saga/start", SEED_001)

    assert client.post("/saga/order-123/cancel").status_code == 409


@pytest.mark.parametrize("path", ["/orders/none", "/saga/none/status", "/saga/none/history"])
def test_what_does_not_exist_is_not_found(client: FlaskClient, path: str) -> None:
    assert get(client, path, 404)["instance"] == path
    assert client.post("/saga/none/cancel").status_code == 404


@pytest.mark.parametrize("path", ["/orders", "/saga/start"])
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quantity": 0}, "quantity"),
        ({"quantity": "2"}, "quantity"),
        ({"amount": -1}, "amount"),
        ({"price": True}, "price"),
        ({"customerId": ""}, "customerId"),
        ({"customerId": "nobody"}, "customerId"),
        ({"customer_id": "guest"}, "customer_id"),
        ({"productId": "no-such"}, "productId"),
        ({"productId": None, "bookId": "no-such"}, "bookId"),
        ({"productId": "a\0"}, "productId"),
        ({"bookId": "item-001"}, "bookId"),
        ({"orderId": "a b"}, "orderId"),
        ({"paymentMethod": "cash"}, "paymentMethod"),
        ({"shippingAddress": "\ud800"}, "shippingAddress"),
        ({"simulate": {"payments": "x"}}, "simulate.payments"),
        ({"simulate": {"orders": "timeout"}}, "simulate.orders"),
    ],
)
def test_what_is_wrong_is_named_as_the_client_named_it(
    client: FlaskClient, path: str, change: dict[str, Any], field: str
) -> None:
    problem = post(client, path, {**SEED_004, **change}, 422)

    assert [error["field"] for error in problem["errors"]] == [field]


@pytest.mark.parametrize(("change", "field"), [({"amount": 999}, "amount"), ({"price": 499}, "price")])
def test_another_price_is_refused_with_both(client: FlaskClient, change: dict[str, int], field: str) -> None:
    problem = post(client, "/orders", {**SEED_004, **change}, 409)

    assert [error["field"] for error in problem["errors"]] == [field]
    assert problem["facts"]["requested"] == next(iter(change.values()))


def test_faults_are_refused_where_they_are_switched_off(strict_client: FlaskClient) -> None:
    for path in ("/orders", "/saga/start"):
        post(strict_client, path, {**SEED_004, "simulate": {"payments": "decline"}}, 403)
