from typing import Any

import pytest
from flask.testing import FlaskClient

from app import runtime
from durable_sagas.models import SagaInstance
from tests.testkit.shop import UNKNOWN_ID
from tests.testkit.web import SEED_ORDER, STUCK, PlaceUnsent, fields_of, get, post

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


def test_a_saga_under_way_says_what_it_is_at_and_until_when(client: FlaskClient, no_messages: None) -> None:
    path = f"/api/v1/sagas/{post(client, '/api/v1/orders', SEED_ORDER)['saga_id']}"

    saga = get(client, path)
    [running] = get(client, f"{path}/history")["history"]

    assert (saga["status"], saga["current_step"]) == ("pending", "create_order")
    assert saga["deadline_at"] > saga["created_at"]
    assert (running["step_name"], running["status"], running["retry_attempt"]) == ("create_order", "running", 0)
    assert running["started_at"]
    assert "completed_at" not in running
    client.post(f"{path}/cancel")
    assert steps(client, saga["saga_id"]) == [("create_order", "compensation", "running")]


def test_a_saga_and_its_history_are_shown_in_seed_003s_form(client: FlaskClient, order: dict[str, Any]) -> None:
    saga = get(client, f"/api/v1/sagas/{order['saga_id']}")
    told = get(client, f"/api/v1/sagas/{order['saga_id']}/history")

    assert (saga["saga_id"], saga["order_id"]) == (order["saga_id"], order["order_id"])
    assert (saga["status"], saga["state"], saga["current_step"]) == ("completed", "COMPLETED", None)
    assert (saga["context"]["order_id"], saga["context"]["customer_id"]) == (order["order_id"], "customer-123")
    item = saga["context"]["items"][0]
    assert (item["product_id"], item["quantity"], item["price"]) == ("product-1", 2, 100)
    states = [reached["state"] for reached in saga["state_history"]]
    assert states == ["STARTED", "ORDER_CREATED", "STOCK_RESERVED", "PAYMENT_COMPLETED", "COMPLETED"]
    assert saga["error"] is None
    assert told["saga_id"] == order["saga_id"]
    assert steps(client, order["saga_id"]) == [(step, "action", "completed") for step in FORWARD_STEPS]
    paid = told["history"][2]
    assert paid["step_name"] == "process_payment"
    assert paid["started_at"] <= paid["completed_at"]
    assert (paid["retry_attempt"], paid["attempts"], paid["failures"], paid["error"]) == (0, 1, [], None)
    assert paid["task_id"]
    assert paid["result"]["amount"] == 200


def test_a_history_tells_how_often_a_step_was_tried_again(client: FlaskClient) -> None:
    placed = post(client, "/api/v1/orders", {**SEED_ORDER, "simulate": {"inventory": "fail:2"}})

    history = get(client, f"/api/v1/sagas/{placed['saga_id']}/history")["history"]
    reserved = next(step for step in history if step["step_name"] == "reserve_stock")

    assert (reserved["status"], reserved["attempts"], reserved["retry_attempt"]) == ("completed", 3, 2)
    assert [failure["attempt"] for failure in reserved["failures"]] == [1, 2]
    assert reserved["started_at"] == reserved["failures"][0]["started_at"]
    assert [step["step_name"] for step in history] == FORWARD_STEPS


def test_a_pending_saga_can_be_cancelled_and_asking_again_changes_nothing(
    client: FlaskClient, no_messages: None
) -> None:
    placed = post(client, "/api/v1/orders", SEED_ORDER)

    answers = [client.post(f"/api/v1/sagas/{placed['saga_id']}/cancel") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 202]
    first, second = (answer.get_json() for answer in answers)
    assert (first["saga_id"], first["status"], first["cancel_decision"]) == (
        placed["saga_id"],
        "compensating",
        "undone",
    )
    assert second == first
    assert get(client, f"/api/v1/sagas/{placed['saga_id']}")["error"] == "cancelled on request"


def test_an_unfinished_saga_can_be_driven_on(client: FlaskClient, place_unsent: PlaceUnsent) -> None:
    placed = place_unsent(SEED_ORDER)

    answer = client.post(f"/api/v1/sagas/{placed['saga_id']}/resume")

    assert answer.status_code == 202
    assert answer.get_json()["saga_id"] == placed["saga_id"]
    assert get(client, f"/api/v1/sagas/{placed['saga_id']}")["status"] == "completed"


def test_a_finished_saga_can_be_neither_cancelled_resumed_nor_skipped(
    client: FlaskClient, order: dict[str, Any]
) -> None:
    for asked in ("cancel", "resume", "skip"):
        answer = client.post(
            f"/api/v1/sagas/{order['saga_id']}/{asked}", json={"by": "Ann"} if asked == "skip" else None
        )
        assert (answer.status_code, answer.mimetype) == (409, "application/problem+json"), asked
        assert answer.get_json()["facts"] == {"status": "completed"}


def test_a_saga_no_deployed_code_knows_is_shown_and_refused(client: FlaskClient, order: dict[str, Any]) -> None:
    with runtime.current().database.transaction() as session:
        session.get_one(SagaInstance, order["saga_id"]).saga_type = "retired"

    assert get(client, f"/api/v1/sagas/{order['saga_id']}")["saga_type"] == "retired"
    assert client.post(f"/api/v1/sagas/{order['saga_id']}/cancel").status_code == 409


@pytest.mark.parametrize("saga_id", ["none", UNKNOWN_ID, UNKNOWN_ID.upper() + "0"])
def test_a_saga_that_does_not_exist_is_not_found(client: FlaskClient, saga_id: str) -> None:
    path = f"/api/v1/sagas/{saga_id}"

    answers = [client.get(path), client.get(f"{path}/history"), client.post(f"{path}/skip", json={"by": "Ann"})]
    answers += [client.post(f"{path}/{asked}") for asked in ("cancel", "resume")]

    assert [answer.status_code for answer in answers] == [404] * 5


STUCK_ORDER = {**SEED_ORDER, "simulate": {"payments": "undo-fail:99", "shipping": "decline"}}


def test_a_compensation_done_by_hand_is_told_in_the_history(client: FlaskClient) -> None:
    path = f"/api/v1/sagas/{post(client, '/api/v1/orders', STUCK_ORDER)['saga_id']}"
    for body, field in (
        ({}, "by"),
        ({"by": ""}, "by"),
        ({"by": "x" * 201}, "by"),
        ({"by": "Ann", "note": "\0"}, "note"),
        ({"by": "Ann", "how": "?"}, "how"),
    ):
        assert fields_of(post(client, f"{path}/skip", body, 422)) == [field]
    assert get(client, path)["status"] == "stuck"

    post(client, f"{path}/skip", {"by": "Ann", "note": "paid back by bank transfer"})

    assert get(client, path)["status"] == "compensated"
    refund = next(step for step in get(client, f"{path}/history")["history"] if step["status"] == "by_hand")
    assert (refund["step_name"], refund["done_by"], refund["note"]) == (
        "process_payment",
        "Ann",
        "paid back by bank transfer",
    )
    assert (refund["attempts"], len(refund["failures"])) == (7, 7)


def test_all_that_are_stuck_on_a_step_are_found_and_resumed(client: FlaskClient) -> None:
    stuck = [post(client, "/api/v1/orders", STUCK)["saga_id"] for _ in range(3)]
    found = get(client, "/api/v1/sagas?status=stuck&step=process_payment")["sagas"]
    assert [saga["saga_id"] for saga in found] == stuck[::-1]
    assert get(client, "/api/v1/sagas?step=reserve_stock")["sagas"] == []

    first = resume_all(client, "limit=2")
    second = resume_all(client, f"cursor={first['next_cursor']}")

    assert (first["resumed"], second["resumed"], second["next_cursor"]) == (stuck[:2], stuck[2:], None)
    assert get(client, "/api/v1/sagas?status=stuck")["sagas"] == []
    assert resume_all(client, "cursor=x", 422)["errors"][0]["field"] == "cursor"


def resume_all(client: FlaskClient, query: str, status: int = 202) -> dict[str, Any]:
    response = client.post(f"/api/v1/stuck-sagas/resume?step=process_payment&{query}")
    assert response.status_code == status, response.text
    return dict(response.get_json())


def test_a_stuck_saga_keeps_the_failed_compensations_error_and_attempts(client: FlaskClient) -> None:
    path = f"/api/v1/sagas/{post(client, '/api/v1/orders', STUCK)['saga_id']}"

    saga = get(client, path)
    assert (saga["status"], saga["state"], saga["current_step"]) == (
        "stuck",
        "COMPENSATION_STARTED",
        "process_payment",
    )
    assert saga["error"] == "payments.refund_payment: unavailable, as simulated (7 of 7)"
    refund = next(
        step
        for step in get(client, f"{path}/history")["history"]
        if step["operation"] == "compensation" and step["status"] == "failed"
    )
    assert refund["attempts"] == 7
    assert [failure["error"] for failure in refund["failures"]] == [
        f"unavailable, as simulated ({attempt} of 7)" for attempt in range(1, 8)
    ]
    assert client.post(f"{path}/resume").status_code == 202
    assert get(client, path)["status"] == "compensated"


def test_a_history_tells_what_operators_did_and_not_what_was_refused_them(client: FlaskClient) -> None:
    placed = post(client, "/api/v1/orders", STUCK_ORDER)
    path = f"/api/v1/sagas/{placed['saga_id']}"
    assert client.post(f"{path}/cancel").status_code == 409
    assert get(client, f"{path}/history")["acts"] == []

    client.post(f"{path}/resume")
    resume_all(client, "limit=2")
    post(client, f"{path}/skip", {"by": "Ann", "note": "paid back"})

    acts = get(client, f"{path}/history")["acts"]
    program = "API, without a token"
    told = [(act["act"], act["by"], act["note"]) for act in acts]
    assert told == [("resume", program, None), ("resume_stuck", program, None), ("skip", "Ann", "paid back")]
    assert acts[0]["at"] < acts[1]["at"] < acts[2]["at"]
