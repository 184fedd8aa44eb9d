"""A cancellation is a request: the answer says so, and afterwards the order and its saga say what became of it."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from tasks.gateways.carrier import SimulatedCarrier
from tests.testkit.client import Typed
from tests.testkit.messages import Post
from tests.testkit.web import SEED_ORDER, get
from tests.testkit.web import post as send

RESERVE, CHARGE = "inventory.reserve_on_order_created", "payments.charge_on_order_created"
SHIP = "shipping.ship_when_reserved_and_paid"
TOO_LATE = "it was past the point of no return when the request was handled"
FIELDS = ("cancel_requested_at", "cancel_decision", "cancel_reason")
QUERY = "{ sagas(first: 1) { nodes { status cancelRequestedAt cancelDecision cancelReason } } }"


def choreographed(client: FlaskClient, held: Post) -> dict[str, Any]:
    placed = send(client, "/api/v1/orders", {**SEED_ORDER, "pattern": "choreography"})
    for task_name in (RESERVE, CHARGE):
        held.deliver(task_name)
    return placed


def test_a_request_that_came_too_late_is_answered_as_requested_and_ends_with_the_reason(
    client: FlaskClient, post: Post, monkeypatch: pytest.MonkeyPatch, typed: Typed
) -> None:
    placed = choreographed(client, post)
    order, saga = f"/api/v1/orders/{placed['order_id']}", f"/api/v1/sagas/{placed['saga_id']}"
    answers: list[Any] = []
    book = SimulatedCarrier.book

    def cancelled_meanwhile(*call: Any) -> str:
        answers.append(client.delete(order))
        return book(*call)

    monkeypatch.setattr(SimulatedCarrier, "book", cancelled_meanwhile)
    assert [get(client, saga)[field] for field in FIELDS] == [None, None, None]

    post.deliver(SHIP)

    [answer] = answers
    assert answer.status_code == 202
    assert answer.get_json()["cancel_decision"] == "pending"
    assert get(client, order)["cancel_decision"] == "pending"
    assert "not decided yet" in client.get(f"/sagas/{placed['saga_id']}").text
    post.deliver_all()
    for path in (order, saga):
        shown = get(client, path)
        assert (shown["cancel_decision"], shown["cancel_reason"]) == ("too_late", TOO_LATE)
        assert shown["cancel_requested_at"] == answer.get_json()["cancel_requested_at"]
    short = get(client, f"/saga/{placed['order_id']}/status")
    assert (short["status"], short["cancelDecision"]) == ("completed", "too_late")
    reply = client.post("/graphql", json={"query": QUERY}).get_json()
    assert "errors" not in reply, reply
    [told] = reply["data"]["sagas"]["nodes"]
    assert (told["status"], told["cancelReason"]) == ("completed", TOO_LATE)
    assert "too late, it was past the point of no return" in client.get(f"/sagas/{placed['saga_id']}").text
    assert TOO_LATE in typed("saga", "show", placed["saga_id"]).stdout


def test_a_request_for_a_saga_that_is_being_compensated_anyway_has_its_decision_at_once(
    client: FlaskClient, post: Post
) -> None:
    failing = {"shipping": "decline", "payments": "undo-fail:14"}
    placed = send(client, "/api/v1/orders", {**SEED_ORDER, "pattern": "choreography", "simulate": failing})
    post.deliver_all()
    page = f"/sagas/{placed['saga_id']}"
    assert get(client, f"/api/v1{page}")["status"] == "stuck"
    assert client.post(f"/api/v1{page}/resume").get_json()["status"] == "compensating"

    answer = client.delete(f"/api/v1/orders/{placed['order_id']}")

    assert (answer.status_code, answer.get_json()["cancel_decision"]) == (202, "undone")
    assert answer.get_json()["cancel_requested_at"]
    assert "in time, the saga is being compensated." in client.get(page).text
    post.deliver_all()
    assert "in time, but its compensation is stuck." in client.get(page).text
    client.post(f"/api/v1{page}/resume")
    post.deliver_all()
    assert get(client, f"/api/v1{page}")["status"] == "compensated"
    assert "in time, the saga is compensated." in client.get(page).text
