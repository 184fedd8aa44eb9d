from dataclasses import dataclass
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update

from app.runtime import Runtime
from tasks.orders import OrderRequest
from tests.web.conftest import SEED_ORDER, PlaceUnsent, get, post, stock
from web.api import requests
from workflows import orders
from workflows.orders import Item, NewOrder

EVENTS_OF_A_GOOD_ORDER = [
    "OrderCreated",
    "StockReserved",
    "PaymentCompleted",
    "ShippingArranged",
    "StockShipped",
    "OrderCompleted",
]


def test_seed_003s_order_gets_seed_003s_answer(client: FlaskClient) -> None:
    response = client.post("/api/v1/orders", json=SEED_ORDER)

    assert response.status_code == 202
    assert response.mimetype == "application/json"
    answer = response.get_json()
    assert list(answer) == ["saga_id", "order_id", "status", "message"]
    assert (answer["status"], answer["message"]) == ("pending", "Order creation started")
    assert response.headers["Location"] == f"/api/v1/orders/{answer['order_id']}"


def test_a_placed_order_can_be_read_with_all_that_was_done_for_it(client: FlaskClient, order: dict[str, Any]) -> None:
    shown = get(client, f"/api/v1/orders/{order['order_id']}")

    assert shown["status"] == "completed"
    assert shown["customer_id"] == "customer-123"
    assert shown["items"] == [
        {"book_id": "product-1", "title": "The Potter Saga", "quantity": 2, "unit_price": 100},
    ]
    assert shown["total_amount"] == 200
    assert shown["payment_method"] == "credit_card"
    assert shown["saga_id"] == order["saga_id"]
    assert (shown["saga_type"], shown["saga_status"], shown["saga_state"]) == ("order", "completed", "COMPLETED")
    assert (shown["payment"]["status"], shown["payment"]["amount"]) == ("completed", 200)
    assert shown["payment"]["transaction_id"]
    assert shown["shipment"]["status"] == "arranged"
    assert shown["shipment"]["tracking_number"]


def test_an_order_nobody_worked_on_yet_has_neither_payment_nor_shipment(client: FlaskClient, no_messages: None) -> None:
    placed = post(client, "/api/v1/orders", SEED_ORDER)

    shown = get(client, f"/api/v1/orders/{placed['order_id']}")

    assert (shown["status"], shown["saga_status"]) == ("pending", "pending")
    assert shown["payment"] is None
    assert shown["shipment"] is None


def test_an_order_may_have_several_items_and_leave_out_what_is_known(client: FlaskClient) -> None:
    body = {
        "items": [{"book_id": "book-123", "quantity": 1}, {"product_id": "book-789", "quantity": 2}],
        "amount": 9100,
        "payment_method": "e_money",
        "shipping_address": "東京都千代田区1-1 \U0001f4da",
    }

    placed = post(client, "/api/v1/orders", body)

    shown = get(client, f"/api/v1/orders/{placed['order_id']}")
    assert [item["book_id"] for item in shown["items"]] == ["book-123", "book-789"]
    assert (shown["customer_id"], shown["total_amount"], shown["payment_method"]) == ("guest", 9100, "e_money")
    assert shown["shipping_address"] == "東京都千代田区1-1 \U0001f4da"


@pytest.mark.parametrize(
    ("asked", "saga_type"),
    [
        ({}, "order"),
        ({"pattern": "orchestration"}, "order"),
        ({"pattern": "choreography"}, "order-choreography"),
        ({"saga_type": "order-payment-first"}, "order-payment-first"),
        ({"saga_type": "order-choreography"}, "order-choreography"),
        ({"saga_type": "order-choreography", "pattern": "choreography"}, "order-choreography"),
        ({"saga_type": None, "pattern": None}, "order"),
    ],
)
def test_pattern_and_saga_type_choose_the_saga(client: FlaskClient, asked: dict[str, Any], saga_type: str) -> None:
    placed = post(client, "/api/v1/orders", {**SEED_ORDER, **asked})

    saga = get(client, f"/api/v1/sagas/{placed['saga_id']}")
    assert (saga["saga_type"], saga["status"]) == (saga_type, "completed")


@pytest.mark.parametrize("order_id_field", ["order_id", "orderId"])
def test_a_client_may_name_its_order_in_either_spelling(client: FlaskClient, order_id_field: str) -> None:
    placed = post(client, "/api/v1/orders", {**SEED_ORDER, order_id_field: "my-order.1_A"})

    assert placed["order_id"] == "my-order.1_A"
    assert get(client, "/api/v1/orders/my-order.1_A")["status"] == "completed"


def test_the_same_key_and_body_get_the_same_answer_and_one_order(client: FlaskClient) -> None:
    headers = {"Idempotency-Key": "a key, printable"}
    first = client.post("/api/v1/orders", json=SEED_ORDER, headers=headers)
    again = client.post("/api/v1/orders", json=SEED_ORDER, headers=headers)

    assert (again.status_code, again.get_json()) == (first.status_code, first.get_json())
    assert again.headers["Location"] == first.headers["Location"]
    assert len(get(client, "/api/v1/orders")["orders"]) == 1
    assert stock(client, "product-1")["available_stock"] == 998


def test_without_a_key_the_same_body_is_another_order(client: FlaskClient, order: dict[str, Any]) -> None:
    assert post(client, "/api/v1/orders", SEED_ORDER)["order_id"] != order["order_id"]


def test_an_amount_is_the_same_however_it_is_written(client: FlaskClient) -> None:
    whole = {"items": [{"product_id": "product-1", "quantity": 2, "price": 100}], "order_id": "mine"}
    fraction = b'{"items": [{"product_id": "product-1", "quantity": 2, "price": 1.0000e2}], "order_id": "mine"}'

    first = post(client, "/api/v1/orders", whole)
    again = client.post("/api/v1/orders", data=fraction, content_type="application/json")

    assert (again.status_code, again.get_json()) == (202, first)


def test_the_same_key_with_another_body_is_refused(client: FlaskClient) -> None:
    headers = {"Idempotency-Key": "once"}
    client.post("/api/v1/orders", json=SEED_ORDER, headers=headers)

    response = client.post("/api/v1/orders", json={**SEED_ORDER, "payment_method": "e_money"}, headers=headers)

    assert response.status_code == 422
    assert [error["field"] for error in response.get_json()["errors"]] == ["Idempotency-Key"]
    assert len(get(client, "/api/v1/orders")["orders"]) == 1


def test_the_same_order_id_is_the_same_order_and_never_another(client: FlaskClient) -> None:
    body = {**SEED_ORDER, "order_id": "mine"}
    first = post(client, "/api/v1/orders", body)

    assert post(client, "/api/v1/orders", body) == first

    other = post(client, "/api/v1/orders", {**body, "customer_id": "user-123"}, 422)
    assert [error["field"] for error in other["errors"]] == ["order_id"]


@pytest.mark.parametrize("key", ["", "x" * 201, "tab\there", "käse"])
def test_an_unusable_key_is_refused(client: FlaskClient, key: str) -> None:
    response = client.post("/api/v1/orders", json=SEED_ORDER, headers={"Idempotency-Key": key})

    assert response.status_code == 422
    assert [error["field"] for error in response.get_json()["errors"]] == ["Idempotency-Key"]


def test_the_longest_key_is_known_again(client: FlaskClient) -> None:
    headers = {"Idempotency-Key": "x" * 200}

    answers = [client.post("/api/v1/orders", json=SEED_ORDER, headers=headers).get_json() for _ in range(2)]

    assert answers[0]["order_id"] == answers[1]["order_id"]


@pytest.mark.parametrize(
    ("simulate", "status"),
    [
        ({"payments": "decline"}, "compensated"),
        ({"shipping": "decline"}, "compensated"),
        ({"inventory": "fail:1"}, "completed"),
        ({"orders": "fail:1", "payments": "fail:1"}, "completed"),
    ],
)
@pytest.mark.parametrize("pattern", ["orchestration", "choreography"])
def test_a_fault_asked_for_strikes(client: FlaskClient, simulate: dict[str, str], status: str, pattern: str) -> None:
    placed = post(client, "/api/v1/orders", {**SEED_ORDER, "simulate": simulate, "pattern": pattern})

    saga = get(client, f"/api/v1/sagas/{placed['saga_id']}")
    assert saga["status"] == status
    assert saga["context"]["simulate"] == simulate
    assert stock(client, "product-1")["reserved_stock"] == 0


def test_faults_are_refused_where_they_are_switched_off(strict_client: FlaskClient) -> None:
    problem = post(strict_client, "/api/v1/orders", {**SEED_ORDER, "simulate": {"payments": "decline"}}, 403)

    assert [error["field"] for error in problem["errors"]] == ["simulate"]
    assert get(strict_client, "/api/v1/orders")["orders"] == []
    assert post(strict_client, "/api/v1/orders", {**SEED_ORDER, "simulate": {}})["status"] == "pending"


def test_another_price_than_the_catalogues_is_refused_with_both(client: FlaskClient) -> None:
    body = {
        "items": [{"book_id": "book-123", "quantity": 1}, {"product_id": "product-1", "quantity": 1, "price": 99.5}]
    }

    problem = post(client, "/api/v1/orders", body, 409)

    assert problem["facts"] == {"requested": 99.5, "actual": 100}
    assert [error["field"] for error in problem["errors"]] == ["items.1.price"]
    total = post(client, "/api/v1/orders", {**SEED_ORDER, "amount": 150}, 409)
    assert total["facts"] == {"requested": 150, "actual": 200}


def test_a_book_nobody_sells_is_named_as_the_client_named_it(client: FlaskClient) -> None:
    for field in ("product_id", "book_id"):
        problem = post(client, "/api/v1/orders", {"items": [{field: "no-such", "quantity": 1}]}, 422)
        assert [error["field"] for error in problem["errors"]] == [f"items.0.{field}"]


def test_an_unknown_customer_is_refused(client: FlaskClient) -> None:
    problem = post(client, "/api/v1/orders", {**SEED_ORDER, "customer_id": "nobody"}, 422)

    assert [error["field"] for error in problem["errors"]] == ["customer_id"]


def test_pages_of_orders_hold_every_order_once_newest_first(client: FlaskClient, no_messages: None) -> None:
    placed = [post(client, "/api/v1/orders", SEED_ORDER)["order_id"] for _ in range(7)]

    seen: list[str] = []
    sizes = []
    path = "/api/v1/orders?limit=3"
    while True:
        page = get(client, path)
        sizes.append(len(page["orders"]))
        seen += [order["order_id"] for order in page["orders"]]
        if page["next_cursor"] is None:
            break
        path = f"/api/v1/orders?limit=3&cursor={page['next_cursor']}"

    assert seen == placed[::-1]
    assert sizes == [3, 3, 1]


def test_orders_of_one_moment_are_paged_by_their_ids(client: FlaskClient, no_messages: None, here: Runtime) -> None:
    frozen = here.now()
    here.now = lambda: frozen
    for order_id in ("b", "a", "c"):
        post(client, "/api/v1/orders", {**SEED_ORDER, "order_id": order_id})

    first = get(client, "/api/v1/orders?limit=2")
    second = get(client, f"/api/v1/orders?limit=2&cursor={first['next_cursor']}")

    assert [order["order_id"] for order in first["orders"] + second["orders"]] == ["c", "b", "a"]


def test_a_page_that_ends_with_the_last_order_has_no_next(client: FlaskClient, no_messages: None) -> None:
    for _ in range(2):
        post(client, "/api/v1/orders", SEED_ORDER)

    assert get(client, "/api/v1/orders?limit=2")["next_cursor"] is None
    assert get(client, "/api/v1/orders?limit=1")["next_cursor"] is not None


def test_orders_are_listed_by_status_and_customer(client: FlaskClient) -> None:
    good = post(client, "/api/v1/orders", SEED_ORDER)["order_id"]
    bad = post(client, "/api/v1/orders", {"items": [{"book_id": "book-456", "quantity": 1}]})["order_id"]

    def listed(query: str) -> list[str]:
        return [order["order_id"] for order in get(client, f"/api/v1/orders?{query}")["orders"]]

    assert listed("status=completed") == [good]
    assert listed("status=cancelled") == [bad]
    assert listed("status=pending") == []
    assert listed("customer_id=customer-123") == [good]
    assert listed("customer_id=guest&status=cancelled") == [bad]
    assert listed("customer_id=nobody") == []


def test_an_orders_events_are_numbered_in_the_order_they_happened(client: FlaskClient, order: dict[str, Any]) -> None:
    told = get(client, f"/api/v1/orders/{order['order_id']}/events")

    assert told["order_id"] == order["order_id"]
    assert [event["event_type"] for event in told["events"]] == EVENTS_OF_A_GOOD_ORDER
    assert [event["sequence"] for event in told["events"]] == [1, 2, 3, 4, 5, 6]
    assert {event["aggregate_id"] for event in told["events"]} == {order["order_id"]}
    assert told["events"][2]["payload"]["amount"] == 200
    assert all(event["timestamp"].endswith("Z") for event in told["events"])


def test_a_pending_order_can_be_sent_elsewhere(client: FlaskClient, no_messages: None) -> None:
    placed = post(client, "/api/v1/orders", SEED_ORDER)

    response = client.patch(f"/api/v1/orders/{placed['order_id']}", json={"shipping_address": "Elsewhere 2"})

    assert response.status_code == 200
    assert response.get_json()["shipping_address"] == "Elsewhere 2"
    assert get(client, f"/api/v1/orders/{placed['order_id']}")["shipping_address"] == "Elsewhere 2"


def test_a_finished_order_cannot_be_sent_elsewhere(client: FlaskClient, order: dict[str, Any]) -> None:
    response = client.patch(f"/api/v1/orders/{order['order_id']}", json={"shipping_address": "Elsewhere 2"})

    assert response.status_code == 409
    assert response.get_json()["facts"] == {"status": "completed"}
    assert get(client, f"/api/v1/orders/{order['order_id']}")["shipping_address"] != "Elsewhere 2"


def test_only_the_address_of_an_order_can_be_changed(client: FlaskClient, no_messages: None) -> None:
    placed = post(client, "/api/v1/orders", SEED_ORDER)

    response = client.patch(f"/api/v1/orders/{placed['order_id']}", json={"shipping_address": "x", "items": []})

    assert response.status_code == 422
    assert [error["field"] for error in response.get_json()["errors"]] == ["items"]


@pytest.mark.parametrize("pattern", ["orchestration", "choreography"])
def test_a_pending_order_can_be_cancelled(client: FlaskClient, place_unsent: PlaceUnsent, pattern: str) -> None:
    placed = place_unsent({**SEED_ORDER, "pattern": pattern})

    response = client.delete(f"/api/v1/orders/{placed['order_id']}")

    assert response.status_code == 202
    answer = response.get_json()
    assert (answer["order_id"], answer["saga_id"]) == (placed["order_id"], placed["saga_id"])
    assert answer["status"] in {"running", "compensating", "compensated"}


def test_a_cancelled_order_ends_cancelled(client: FlaskClient, place_unsent: PlaceUnsent) -> None:
    placed = place_unsent(SEED_ORDER)

    client.delete(f"/api/v1/orders/{placed['order_id']}")

    shown = get(client, f"/api/v1/orders/{placed['order_id']}")
    assert (shown["status"], shown["saga_status"]) == ("cancelled", "compensated")


def test_a_finished_order_cannot_be_cancelled(client: FlaskClient, order: dict[str, Any]) -> None:
    response = client.delete(f"/api/v1/orders/{order['order_id']}")

    assert response.status_code == 409
    assert "point of no return" in response.get_json()["detail"]


@pytest.mark.parametrize("method", ["get", "delete", "patch"])
def test_an_order_that_does_not_exist_is_not_found(client: FlaskClient, method: str) -> None:
    body = {"shipping_address": "x"} if method == "patch" else None

    response = client.open("/api/v1/orders/none", method=method, json=body)

    assert (response.status_code, response.mimetype) == (404, "application/problem+json")
    assert client.get("/api/v1/orders/none/events").status_code == 404


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


def test_an_old_key_does_not_stand_for_a_request_with_a_new_field() -> None:
    items = (Item("product-1", 1),)
    stored = "f00385a720775ae64044a6b363a8bd47598e000de9da18b63550d42d165b1ae8"

    assert LaterOrder(items).matches(stored)
    assert not LaterOrder(items, gift_wrap=True).matches(stored)
