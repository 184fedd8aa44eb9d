from typing import Any

from flask.testing import FlaskClient

from tests.testkit.web import SEED_ORDER, STUCK, acts, change_saga, fields_of, get, place, post

FORWARD_STEPS = ["create_order", "reserve_stock", "process_payment", "arrange_shipping", "ship_stock", "complete_order"]
STUCK_FOR_LONG = {**SEED_ORDER, "simulate": {"payments": "undo-fail:99", "shipping": "decline"}}


def path_of(client: FlaskClient, order: object) -> str:
    """Place an order; returns the path of its saga."""
    return f"/api/v1/sagas/{place(client, order)}"


def history(client: FlaskClient, path: str) -> list[dict[str, Any]]:
    return list(get(client, f"{path}/history")["history"])


def resume_all(client: FlaskClient, query: str, status: int = 202) -> dict[str, Any]:
    return post(client, f"/api/v1/stuck-sagas/resume?step=process_payment&{query}", None, status)


def test_a_saga_under_way_says_what_it_is_at_and_until_when(client: FlaskClient, no_messages: None) -> None:
    path = path_of(client, SEED_ORDER)

    saga = get(client, path)
    [running] = history(client, path)

    assert (saga["status"], saga["current_step"]) == ("pending", "create_order")
    assert saga["deadline_at"] > saga["created_at"]
    assert (running["step_name"], running["status"], running["retry_attempt"]) == ("create_order", "running", 0)
    assert running["started_at"]
    assert "completed_at" not in running
    # asking again changes nothing
    assert post(client, f"{path}/cancel", None) == post(client, f"{path}/cancel", None)
    [undoing] = history(client, path)
    assert (undoing["step_name"], undoing["operation"], undoing["status"]) == (
        "create_order",
        "compensation",
        "running",
    )
    assert get(client, path)["error"] == "cancelled on request"


def test_a_saga_and_its_history_are_shown_in_seed_003s_form(client: FlaskClient, order: dict[str, Any]) -> None:
    path = f"/api/v1/sagas/{order['saga_id']}"
    saga = get(client, path)
    told = get(client, f"{path}/history")

    assert (saga["saga_id"], saga["order_id"]) == (order["saga_id"], order["order_id"])
    assert (saga["status"], saga["state"], saga["current_step"]) == ("completed", "COMPLETED", None)
    assert (saga["context"]["order_id"], saga["context"]["customer_id"]) == (order["order_id"], "customer-123")
    item = saga["context"]["items"][0]
    assert (item["product_id"], item["quantity"], item["price"]) == ("product-1", 2, 100)
    states = [reached["state"] for reached in saga["state_history"]]
    assert states == ["STARTED", "ORDER_CREATED", "STOCK_RESERVED", "PAYMENT_COMPLETED", "COMPLETED"]
    assert saga["error"] is None
    assert told["saga_id"] == order["saga_id"]
    steps = [(step["step_name"], step["operation"], step["status"]) for step in told["history"]]
    assert steps == [(step, "action", "completed") for step in FORWARD_STEPS]
    paid = told["history"][2]
    assert paid["started_at"] <= paid["completed_at"]
    assert (paid["retry_attempt"], paid["attempts"], paid["failures"], paid["error"]) == (0, 1, [], None)
    assert paid["task_id"]
    assert paid["result"]["amount"] == 200


def test_a_finished_saga_is_refused_and_so_is_one_that_no_deployed_code_knows(
    client: FlaskClient, order: dict[str, Any]
) -> None:
    path = f"/api/v1/sagas/{order['saga_id']}"
    for asked, body in (("cancel", None), ("resume", None), ("skip", {"by": "Ann"})):
        assert post(client, f"{path}/{asked}", body, 409)["facts"] == {"status": "completed"}
    change_saga(order["saga_id"], saga_type="retired")

    assert get(client, path)["saga_type"] == "retired"
    post(client, f"{path}/cancel", None, 409)


def test_a_compensation_done_by_hand_is_told_in_the_history(client: FlaskClient) -> None:
    path = path_of(client, STUCK_FOR_LONG)
    for body, field in (
        *((body, "by") for body in ({}, {"by": ""}, {"by": "x" * 201})),
        ({"by": "Ann", "note": "\0"}, "note"),
        ({"by": "Ann", "how": "?"}, "how"),
    ):
        assert fields_of(post(client, f"{path}/skip", body, 422)) == [field]
    assert get(client, path)["status"] == "stuck"

    post(client, f"{path}/skip", {"by": "Ann", "note": "paid back by bank transfer"})

    assert get(client, path)["status"] == "compensated"
    [refund] = [step for step in history(client, path) if step["status"] == "by_hand"]
    said = (refund["step_name"], refund["done_by"], refund["note"])
    assert said == ("process_payment", "Ann", "paid back by bank transfer")
    assert (refund["attempts"], len(refund["failures"])) == (7, 7)


def test_all_that_are_stuck_on_a_step_are_found_and_resumed(client: FlaskClient) -> None:
    stuck = [place(client, STUCK) for _ in range(3)]
    found = get(client, "/api/v1/sagas?status=stuck&step=process_payment")["sagas"]
    assert [saga["saga_id"] for saga in found] == stuck[::-1]
    assert get(client, "/api/v1/sagas?step=reserve_stock")["sagas"] == []

    first = resume_all(client, "limit=2")
    second = resume_all(client, f"cursor={first['next_cursor']}")

    assert (first["resumed"], second["resumed"], second["next_cursor"]) == (stuck[:2], stuck[2:], None)
    assert get(client, "/api/v1/sagas?status=stuck")["sagas"] == []
    assert fields_of(resume_all(client, "cursor=x", 422)) == ["cursor"]


def test_a_history_tells_what_operators_did_and_not_what_was_refused_them(client: FlaskClient) -> None:
    saga_id = place(client, STUCK_FOR_LONG)
    path = f"/api/v1/sagas/{saga_id}"
    post(client, f"{path}/cancel", None, 409)
    assert acts(client, saga_id) == []

    post(client, f"{path}/resume", None)
    resume_all(client, "limit=2")
    post(client, f"{path}/skip", {"by": "Ann", "note": "paid back"})

    program = "API, without a token"
    told = [("resume", program, None), ("resume_stuck", program, None), ("skip", "Ann", "paid back")]
    assert acts(client, saga_id) == told
    moments = [act["at"] for act in get(client, f"{path}/history")["acts"]]
    assert moments == sorted(set(moments))
