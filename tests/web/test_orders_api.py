"""Orders by the API: placed once, listed, changed, and cancelled."""

from dataclasses import dataclass
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update

from app.runtime import Runtime
from tasks.gateways.carrier import SimulatedCarrier
from tasks.orders import OrderRequest
from tests.testkit.client import Typed
from tests.testkit.messages import Clock, Post
from tests.testkit.web import SEED_ORDER, PlaceUnsent, data, fields_of, get, post, stock
from web.api import requests
from workflows import orders
from workflows.orders import Item, NewOrder

EVENTS = "OrderCreated StockReserved PaymentCompleted ShippingArranged StockShipped OrderCompleted"


def test_seed_003s_order_gets_seed_003s_answer_and_can_be_read_with_all_that_was_done_for_it(
    client: FlaskClient,
) -> None:
    response = client.post("/api/v1/orders", json=SEED_ORDER)
    assert (response.status_code, response.mimetype) == (202, "application/json")
    order = response.get_json()
    assert list(order) == ["saga_id", "order_id", "status", "message"]
    assert (order["status"], order["message"]) == ("pending", "Order creation started")
    assert response.headers["Location"] == f"/api/v1/orders/{order['order_id']}"

    shown = get(client, f"/api/v1/orders/{order['order_id']}")
    told = get(client, f"/api/v1/orders/{order['order_id']}/events")

    assert (shown["status"], shown["customer_id"]) == ("completed", "customer-123")
    assert shown["items"] == [{"book_id": "product-1", "title": "The Potter Saga", "quantity": 2, "unit_price": 100}]
    assert (shown["total_amount"], shown["payment_method"]) == (200, "credit_card")
    assert shown["saga_id"] == order["saga_id"]
    assert (shown["saga_type"], shown["saga_status"], shown["saga_state"]) == ("order", "completed", "COMPLETED")
    assert (shown["payment"]["status"], shown["payment"]["amount"]) == ("completed", 200)
    assert shown["payment"]["transaction_id"]
    assert shown["shipment"]["status"] == "arranged"
    assert shown["shipment"]["tracking_number"]
    assert told["order_id"] == order["order_id"]
    assert [event["event_type"] for event in told["events"]] == EVENTS.split()
    assert [event["sequence"] for event in told["events"]] == [1, 2, 3, 4, 5, 6]
    assert {event["aggregate_id"] for event in told["events"]} == {order["order_id"]}
    assert told["events"][2]["payload"]["amount"] == 200
    assert all(event["timestamp"].endswith("Z") for event in told["events"])


def test_the_same_key_and_body_get_the_same_answer_and_one_order(client: FlaskClient) -> None:
    headers = {"Idempotency-Key": "a key, printable ".ljust(200, "x")}
    first = client.post("/api/v1/orders", json=SEED_ORDER, headers=headers)
    again = client.post("/api/v1/orders", json=SEED_ORDER, headers=headers)
    other = client.post("/api/v1/orders", json={**SEED_ORDER, "payment_method": "e_money"}, headers=headers)

    assert (again.status_code, again.get_json()) == (first.status_code, first.get_json())
    assert again.headers["Location"] == first.headers["Location"]
    assert (other.status_code, fields_of(other.get_json())) == (422, ["Idempotency-Key"])
    assert len(get(client, "/api/v1/orders")["orders"]) == 1
    assert stock(client, "product-1")["available_stock"] == 998
    assert post(client, "/api/v1/orders", SEED_ORDER)["order_id"] != first.get_json()["order_id"]  # without a key


@pytest.mark.parametrize("field", ["order_id", "orderId"])
def test_an_order_id_of_the_clients_own_is_one_order_and_never_another(client: FlaskClient, field: str) -> None:
    body = {**SEED_ORDER, field: "my-order.1_A"}
    first = post(client, "/api/v1/orders", body)

    assert first["order_id"] == "my-order.1_A"
    assert post(client, "/api/v1/orders", body) == first
    assert fields_of(post(client, "/api/v1/orders", {**body, "customer_id": "user-123"}, 422)) == ["order_id"]


@pytest.mark.parametrize("path", ["/api/v1/orders", "/orders", "/saga/start"])
def test_faults_are_refused_where_they_are_switched_off(strict_client: FlaskClient, path: str) -> None:
    body = SEED_ORDER if path.startswith("/api") else {"productId": "item-001", "quantity": 2}

    assert fields_of(post(strict_client, path, {**body, "simulate": {"payments": "decline"}}, 403)) == ["simulate"]
    assert get(strict_client, "/api/v1/orders")["orders"] == []
    assert post(strict_client, path, {**body, "simulate": {}})["status"] == "pending"


def test_another_price_than_the_catalogues_is_refused_with_both(client: FlaskClient) -> None:
    items = [{"book_id": "book-123", "quantity": 1}, {"product_id": "product-1", "quantity": 1, "price": 99.5}]
    short = {"productId": "item-001", "quantity": 2}

    for path, body, field, requested, actual in (
        ("/api/v1/orders", {"items": items}, "items.1.price", 99.5, 100),
        ("/api/v1/orders", {**SEED_ORDER, "amount": 150}, "amount", 150, 200),
        ("/orders", {**short, "amount": 999}, "amount", 999, 1000),
        ("/orders", {**short, "price": 499}, "price", 499, 500),
    ):
        problem = post(client, path, body, 409)
        assert fields_of(problem) == [field]
        assert problem["facts"] == {"requested": requested, "actual": actual}


@pytest.mark.parametrize(("things", "key"), [("orders", "order_id"), ("sagas", "saga_id"), ("inventory", "book_id")])
def test_pages_hold_everything_once_in_order(client: FlaskClient, no_messages: None, things: str, key: str) -> None:
    placed = [post(client, "/api/v1/orders", SEED_ORDER)[key] for _ in range(6)] if things != "inventory" else []
    books = ["book-123", "book-456", "book-789", "book-999999", "item-001", "product-1"]

    pages = []
    query: str | None = "limit=4"
    while query:
        page = get(client, f"/api/v1/{things}?{query}")
        pages.append([one[key] for one in page["books" if things == "inventory" else things]])
        query = page["next_cursor"] and f"limit=4&cursor={page['next_cursor']}"

    assert pages[0] + pages[1] == (placed[::-1] or books)
    assert len(pages[0]) == 4
    assert get(client, f"/api/v1/{things}?limit=6")["next_cursor"] is None


def test_orders_of_one_moment_are_paged_by_their_ids(client: FlaskClient, no_messages: None, clock: Clock) -> None:
    for order_id in ("b", "a", "c"):
        post(client, "/api/v1/orders", {**SEED_ORDER, "order_id": order_id})

    first = get(client, "/api/v1/orders?limit=2")
    second = get(client, f"/api/v1/orders?limit=2&cursor={first['next_cursor']}")

    assert [order["order_id"] for order in first["orders"] + second["orders"]] == ["c", "b", "a"]


def test_orders_are_listed_by_status_and_customer(client: FlaskClient) -> None:
    good = post(client, "/api/v1/orders", SEED_ORDER)["order_id"]
    bad = post(client, "/api/v1/orders", {"items": [{"book_id": "book-456", "quantity": 1}]})["order_id"]

    for query, found in {
        "status=completed": [good],
        "status=pending": [],
        "customer=customer-123": [good],
        "customer_id=guest&status=cancelled": [bad],
        "customer_id=nobody": [],
    }.items():
        assert [order["order_id"] for order in get(client, f"/api/v1/orders?{query}")["orders"]] == found, query


def test_a_pending_order_has_neither_payment_nor_shipment_and_can_be_sent_elsewhere(
    client: FlaskClient, no_messages: None
) -> None:
    path = f"/api/v1/orders/{post(client, '/api/v1/orders', SEED_ORDER)['order_id']}"
    shown = get(client, path)
    assert (shown["status"], shown["saga_status"]) == ("pending", "pending")
    assert (shown["payment"], shown["shipment"]) == (None, None)

    response = client.patch(path, json={"shipping_address": "Elsewhere 2"})
    wrong = client.patch(path, json={"shipping_address": "x", "items": []})

    assert response.status_code == 200
    assert (wrong.status_code, fields_of(wrong.get_json())) == (422, ["items"])
    assert get(client, path)["shipping_address"] == response.get_json()["shipping_address"] == "Elsewhere 2"


def test_a_finished_order_can_be_neither_sent_elsewhere_nor_cancelled_but_a_pending_one_can(
    client: FlaskClient, order: dict[str, Any], place_unsent: PlaceUnsent
) -> None:
    path = f"/api/v1/orders/{order['order_id']}"
    sent, cancelled = client.patch(path, json={"shipping_address": "Elsewhere 2"}), client.delete(path)
    assert (sent.status_code, sent.get_json()["facts"]) == (409, {"status": "completed"})
    assert get(client, path)["shipping_address"] != "Elsewhere 2"
    assert cancelled.status_code == 409
    assert "point of no return" in cancelled.get_json()["detail"]
    placed = place_unsent(SEED_ORDER)

    answer = client.delete(f"/api/v1/orders/{placed['order_id']}")

    assert answer.status_code == 202
    assert (placed | answer.get_json()) == (answer.get_json() | {"message": placed["message"]})
    shown = get(client, f"/api/v1/orders/{placed['order_id']}")
    assert (shown["status"], shown["saga_status"]) == ("cancelled", "compensated")
    # a customer's own cancelling is no operator's act
    assert get(client, f"/api/v1/sagas/{placed['saga_id']}/history")["acts"] == []


def test_a_key_of_before_a_deploy_still_gets_its_order(client: FlaskClient, here: Runtime) -> None:
    """The first version stored a fingerprint of the order with its defaults: this is the one of seed 003's order."""
    headers = {"Idempotency-Key": "before the deploy"}
    first = client.post("/api/v1/orders", json=SEED_ORDER, headers=headers).get_json()
    stored = "3d0ec163fd319157d3e12f8390d078797caa87ff1eced100021bd9159c70a289"
    with here.database.transaction() as session:
        session.execute(update(OrderRequest).values(fingerprint=stored))

    again = client.post("/api/v1/orders", json=SEED_ORDER, headers=headers)
    other = client.post("/api/v1/orders", json={**SEED_ORDER, "payment_method": "e_money"}, headers=headers)

    assert (again.status_code, again.get_json()["order_id"]) == (202, first["order_id"])
    assert other.status_code == 422


@dataclass(frozen=True)
class LaterOrder(NewOrder):
    """What an order will be in the next version: it has one more field, with a default."""

    gift_wrap: bool = False


def test_a_later_version_with_more_fields_and_other_defaults_knows_a_key_again(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"items": [{"product_id": "product-1", "quantity": 1}]}
    headers = {"Idempotency-Key": "before the deploy"}
    first = client.post("/api/v1/orders", json=body, headers=headers).get_json()

    monkeypatch.setattr(requests, "NewOrder", LaterOrder)
    monkeypatch.setattr(orders, "DEFAULT_ADDRESS", "another counter")
    monkeypatch.setattr(orders, "GUEST", "customer-001")
    again = client.post("/api/v1/orders", json=body, headers=headers)

    assert (again.status_code, again.get_json()["order_id"]) == (202, first["order_id"])
    items = (Item("product-1", 1),)
    stored = "f00385a720775ae64044a6b363a8bd47598e000de9da18b63550d42d165b1ae8"
    assert LaterOrder(items).matches(stored)
    assert not LaterOrder(items, gift_wrap=True).matches(stored)


# ---- a cancellation is a request: afterwards the order and its saga say what became of it


TOO_LATE = "it was past the point of no return when the request was handled"
QUERY = "{ sagas(first: 1) { nodes { status cancelDecision cancelReason } } }"


def choreographed(client: FlaskClient, **simulate: str) -> tuple[str, str]:
    """Place a choreographed order; returns the ids of its saga and of itself."""
    body = {**SEED_ORDER, "pattern": "choreography", "simulate": simulate}
    placed = client.post("/api/v1/orders", json=body).get_json()
    return placed["saga_id"], placed["order_id"]


def test_a_request_that_came_too_late_is_answered_as_requested_and_ends_with_the_reason(
    client: FlaskClient, post: Post, monkeypatch: pytest.MonkeyPatch, typed: Typed
) -> None:
    saga_id, order_id = choreographed(client)
    post.deliver("inventory.reserve_on_order_created", "payments.charge_on_order_created")
    order, page = f"/api/v1/orders/{order_id}", f"/sagas/{saga_id}"
    answers: list[Any] = []
    book = SimulatedCarrier.book

    def cancelled_meanwhile(*call: Any) -> str:
        answers.append(client.delete(order))
        return book(*call)

    monkeypatch.setattr(SimulatedCarrier, "book", cancelled_meanwhile)
    assert get(client, order)["cancel_decision"] is None

    post.deliver("shipping.ship_when_reserved_and_paid")

    [answer] = answers
    assert answer.status_code == 202
    assert answer.get_json()["cancel_decision"] == get(client, order)["cancel_decision"] == "pending"
    assert "not decided yet" in client.get(page).text
    post.deliver_all()
    for path in (order, f"/api/v1{page}"):
        shown = get(client, path)
        assert (shown["cancel_decision"], shown["cancel_reason"]) == ("too_late", TOO_LATE)
        assert shown["cancel_requested_at"] == answer.get_json()["cancel_requested_at"]
    short = get(client, f"/saga/{order_id}/status")
    assert (short["status"], short["cancelDecision"]) == ("completed", "too_late")
    [told] = data(client, QUERY)["sagas"]["nodes"]
    assert told == {"status": "completed", "cancelDecision": "too_late", "cancelReason": TOO_LATE}
    assert "too late, it was past the point of no return" in client.get(page).text
    assert TOO_LATE in typed("saga", "show", saga_id).stdout


def test_a_request_for_a_saga_that_is_being_compensated_anyway_has_its_decision_at_once(
    client: FlaskClient, post: Post
) -> None:
    saga_id, order_id = choreographed(client, shipping="decline", payments="undo-fail:14")
    post.deliver_all()
    page = f"/sagas/{saga_id}"
    assert client.post(f"/api/v1{page}/resume").get_json()["status"] == "compensating"

    answer = client.delete(f"/api/v1/orders/{order_id}")

    assert (answer.status_code, answer.get_json()["cancel_decision"]) == (202, "undone")
    assert answer.get_json()["cancel_requested_at"]
    assert "in time, the saga is being compensated." in client.get(page).text
    post.deliver_all()
    assert "in time, but its compensation is stuck." in client.get(page).text
    client.post(f"/api/v1{page}/resume")
    post.deliver_all()
    assert "in time, the saga is compensated." in client.get(page).text
