from typing import Any

import pytest
from flask.testing import FlaskClient

from app import runtime
from app.ids import new_id
from app.saga.models import SagaInstance
from tests.web.conftest import SEED_ORDER, PlaceUnsent, get, post

FORWARD_STEPS = [
    "create_order",
    "reserve_stock",
    "process_payment",
    "arrange_shipping",
    "ship_stock",
    "complete_order",
]


def steps(client: FlaskClient, saga_id: str) -> list[tuple[str, str, str]]:
    """Return what a saga's history tells, shortly."""
    history = get(client, f"/api/v1/sagas/{saga_id}/history")["history"]
    return [(step["step_name"], step["operation"], step["status"]) for step in history]


def test_a_saga_is_shown_in_seed_003s_form(client: FlaskClient, order: dict[str, Any]) -> None:
    saga = get(client, f"/api/v1/sagas/{order['saga_id']}")

    assert (saga["saga_id"], saga["order_id"]) == (order["saga_id"], order["order_id"])
    assert (saga["status"], saga["state"], saga["current_step"]) == ("completed", "COMPLETED", None)
    assert saga["context"]["order_id"] == order["order_id"]
    assert saga["context"]["customer_id"] == "customer-123"
    assert saga["context"]["items"][0]["quantity"] == 2
    assert [reached["state"] for reached in saga["state_history"]] == [
        "STARTED",
        "ORDER_CREATED",
        "STOCK_RESERVED",
        "PAYMENT_COMPLETED",
        "COMPLETED",
    ]
    assert saga["error"] is None


def test_a_saga_under_way_says_what_it_is_at_and_until_when(client: FlaskClient, no_messages: None) -> None:
    placed = post(client, "/api/v1/orders", SEED_ORDER)

    saga = get(client, f"/api/v1/sagas/{placed['saga_id']}")

    assert (saga["status"], saga["current_step"]) == ("pending", "create_order")
    assert saga["deadline_at"] > saga["created_at"]


def test_a_history_tells_the_steps_in_the_order_they_ran(client: FlaskClient, order: dict[str, Any]) -> None:
    assert steps(client, order["saga_id"]) == [(step, "action", "completed") for step in FORWARD_STEPS]


def test_a_step_of_the_history_has_all_that_seed_003_shows(client: FlaskClient, order: dict[str, Any]) -> None:
    told = get(client, f"/api/v1/sagas/{order['saga_id']}/history")

    assert told["saga_id"] == order["saga_id"]
    paid = told["history"][2]
    assert paid["step_name"] == "process_payment"
    assert paid["started_at"] <= paid["completed_at"]
    assert (paid["retry_attempt"], paid["attempts"], paid["failures"], paid["error"]) == (0, 1, [], None)
    assert paid["task_id"]
    assert paid["result"]["amount"] == 200


def test_a_history_tells_compensations_after_actions_in_reverse(client: FlaskClient) -> None:
    placed = post(client, "/api/v1/orders", {**SEED_ORDER, "simulate": {"payments": "decline"}})

    told = steps(client, placed["saga_id"])

    assert [(step, status) for step, operation, status in told if operation == "action"] == [
        ("create_order", "completed"),
        ("reserve_stock", "completed"),
        ("process_payment", "failed"),
    ]
    assert [step for step, operation, _ in told if operation == "compensation"] == [
        "process_payment",
        "reserve_stock",
        "create_order",
    ]
    assert [operation for _, operation, _ in told] == ["action"] * 3 + ["compensation"] * 3


def test_a_history_tells_how_often_a_step_was_tried_again(client: FlaskClient) -> None:
    placed = post(client, "/api/v1/orders", {**SEED_ORDER, "simulate": {"inventory": "fail:2"}})

    history = get(client, f"/api/v1/sagas/{placed['saga_id']}/history")["history"]
    reserved = next(step for step in history if step["step_name"] == "reserve_stock")

    assert (reserved["status"], reserved["attempts"], reserved["retry_attempt"]) == ("completed", 3, 2)
    assert [failure["attempt"] for failure in reserved["failures"]] == [1, 2]
    assert reserved["started_at"] == reserved["failures"][0]["started_at"]
    assert [step["step_name"] for step in history] == FORWARD_STEPS


def test_the_step_under_way_is_told_as_running_without_an_end(client: FlaskClient, no_messages: None) -> None:
    placed = post(client, "/api/v1/orders", SEED_ORDER)

    history = get(client, f"/api/v1/sagas/{placed['saga_id']}/history")["history"]

    assert [(step["step_name"], step["status"]) for step in history] == [("create_order", "running")]
    assert "completed_at" not in history[0]
    assert history[0]["started_at"]
    assert history[0]["retry_attempt"] == 0


def test_the_compensation_under_way_is_told_as_running(client: FlaskClient, no_messages: None) -> None:
    placed = post(client, "/api/v1/orders", SEED_ORDER)
    client.post(f"/api/v1/sagas/{placed['saga_id']}/cancel")

    assert steps(client, placed["saga_id"]) == [("create_order", "compensation", "running")]


def test_a_choreographed_saga_has_a_history_too(client: FlaskClient) -> None:
    placed = post(client, "/api/v1/orders", {**SEED_ORDER, "pattern": "choreography"})

    told = steps(client, placed["saga_id"])

    assert {step for step, _, _ in told} == set(FORWARD_STEPS)
    assert told[0] == ("create_order", "action", "completed")
    assert {status for _, _, status in told} == {"completed"}


def test_pages_of_sagas_hold_every_saga_once_newest_first(client: FlaskClient, no_messages: None) -> None:
    placed = [post(client, "/api/v1/orders", SEED_ORDER)["saga_id"] for _ in range(5)]

    seen: list[str] = []
    path: str | None = "/api/v1/sagas?limit=2"
    while path:
        page = get(client, path)
        seen += [saga["saga_id"] for saga in page["sagas"]]
        path = page["next_cursor"] and f"/api/v1/sagas?limit=2&cursor={page['next_cursor']}"

    assert seen == placed[::-1]


def test_sagas_are_listed_by_status_and_type(client: FlaskClient) -> None:
    good = post(client, "/api/v1/orders", SEED_ORDER)["saga_id"]
    bad = post(client, "/api/v1/orders", {"items": [{"book_id": "book-456", "quantity": 1}]})["saga_id"]
    dance = post(client, "/api/v1/orders", {**SEED_ORDER, "pattern": "choreography"})["saga_id"]

    def listed(query: str) -> list[str]:
        return [saga["saga_id"] for saga in get(client, f"/api/v1/sagas?{query}")["sagas"]]

    assert listed("status=completed") == [dance, good]
    assert listed("status=compensated") == [bad]
    assert listed("saga_type=order-choreography") == [dance]
    assert listed("saga_type=order&status=completed") == [good]
    assert listed("status=stuck") == []
    assert get(client, "/api/v1/sagas?saga_type=waltz", 422)["errors"][0]["field"] == "saga_type"


def test_a_pending_saga_can_be_cancelled_and_asking_again_changes_nothing(
    client: FlaskClient, no_messages: None
) -> None:
    placed = post(client, "/api/v1/orders", SEED_ORDER)

    answers = [client.post(f"/api/v1/sagas/{placed['saga_id']}/cancel") for _ in range(2)]

    for answer in answers:
        assert answer.status_code == 202
        assert answer.get_json() == {"saga_id": placed["saga_id"], "status": "compensating"}
    assert get(client, f"/api/v1/sagas/{placed['saga_id']}")["error"] == "cancelled on request"


def test_an_unfinished_saga_can_be_driven_on(client: FlaskClient, place_unsent: PlaceUnsent) -> None:
    placed = place_unsent(SEED_ORDER)

    answer = client.post(f"/api/v1/sagas/{placed['saga_id']}/resume")

    assert answer.status_code == 202
    assert answer.get_json()["saga_id"] == placed["saga_id"]
    assert get(client, f"/api/v1/sagas/{placed['saga_id']}")["status"] == "completed"


def test_a_stuck_saga_can_be_resumed(client: FlaskClient) -> None:
    # given a compensation that fails seven times, as often as it is tried
    broken = {**SEED_ORDER, "simulate": {"inventory": "undo-fail:7", "shipping": "decline"}}
    placed = post(client, "/api/v1/orders", broken)
    stuck = get(client, f"/api/v1/sagas/{placed['saga_id']}")
    assert (stuck["status"], stuck["state"]) == ("stuck", "COMPENSATION_STARTED")

    answer = client.post(f"/api/v1/sagas/{placed['saga_id']}/resume")

    assert answer.status_code == 202
    assert get(client, f"/api/v1/sagas/{placed['saga_id']}")["status"] == "compensated"


@pytest.mark.parametrize("request_", ["cancel", "resume"])
def test_a_finished_saga_can_be_neither_cancelled_nor_resumed(
    client: FlaskClient, order: dict[str, Any], request_: str
) -> None:
    answer = client.post(f"/api/v1/sagas/{order['saga_id']}/{request_}")

    assert (answer.status_code, answer.mimetype) == (409, "application/problem+json")
    assert answer.get_json()["facts"] == {"status": "completed"}


def test_a_saga_no_deployed_code_knows_is_shown_and_refused(client: FlaskClient, order: dict[str, Any]) -> None:
    with runtime.current().database.transaction() as session:
        session.get_one(SagaInstance, order["saga_id"]).saga_type = "retired"

    assert get(client, f"/api/v1/sagas/{order['saga_id']}")["saga_type"] == "retired"
    assert client.post(f"/api/v1/sagas/{order['saga_id']}/cancel").status_code == 409


@pytest.mark.parametrize("saga_id", ["none", new_id(), new_id().upper() + "0"])
def test_a_saga_that_does_not_exist_is_not_found(client: FlaskClient, saga_id: str) -> None:
    assert client.get(f"/api/v1/sagas/{saga_id}").status_code == 404
    assert client.get(f"/api/v1/sagas/{saga_id}/history").status_code == 404
    assert client.post(f"/api/v1/sagas/{saga_id}/cancel").status_code == 404
    assert client.post(f"/api/v1/sagas/{saga_id}/resume").status_code == 404


@pytest.mark.parametrize("name", ["saga_type", "type"])
def test_sagas_are_filtered_by_type_in_either_spelling(client: FlaskClient, name: str) -> None:
    for saga_type in ("order", "order-choreography"):
        post(client, "/api/v1/orders", {**SEED_ORDER, "saga_type": saga_type})

    found = get(client, f"/api/v1/sagas?{name}=order-choreography")["sagas"]

    assert [saga["saga_type"] for saga in found] == ["order-choreography"]
    assert get(client, f"/api/v1/orders?customer={SEED_ORDER['customer_id']}")["orders"]
    assert get(client, "/api/v1/orders?customer=customer-002")["orders"] == []
