"""A saga belongs to the trace of the request that started it."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from app import runtime
from app.observability import tracing
from durable_sagas.models import SagaInstance
from tests.tracing.conftest import Arrived
from tests.tracing.receiver import Seen
from web import create_app

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ORDER = {"customer_id": "customer-001", "items": [{"product_id": "book-123", "quantity": 1}]}


def test_the_request_s_own_trace_is_gone_on_with(client: FlaskClient, arrived: Arrived) -> None:
    saga_id = place(client, traceparent=f"00-{TRACE}-{SPAN}-01")

    spans = arrived()
    (request,) = [span for span in spans if span.name == "POST /api/v1/orders"]
    (began,) = [span for span in spans if span.name == "saga order"]
    assert (request.trace, request.parent) == (TRACE, SPAN)
    assert (began.trace, began.parent) == (TRACE, request.id)
    assert kept(saga_id) == f"00-{TRACE}-{began.id}-01"
    assert {span.trace for span in spans if span.has(saga_id=saga_id)} == {TRACE}
    assert client.get(f"/api/v1/sagas/{saga_id}").get_json()["trace_id"] == TRACE


def test_what_a_client_does_not_want_sampled_is_not(client: FlaskClient, arrived: Arrived) -> None:
    saga_id = place(client, traceparent=f"00-{TRACE}-{SPAN}-00")

    assert arrived() == []
    assert (kept(saga_id) or "").startswith(f"00-{TRACE}-")
    assert (kept(saga_id) or "").endswith("-00")
    assert client.get(f"/api/v1/sagas/{saga_id}").get_json()["trace_id"] is None


@pytest.mark.parametrize("nonsense", ["", "00-0-0-01", f"00-{'0' * 32}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01", "x" * 5000])
def test_what_is_no_traceparent_begins_a_trace(client: FlaskClient, arrived: Arrived, nonsense: str) -> None:
    saga_id = place(client, traceparent=nonsense)

    (request,) = [span for span in arrived() if span.name == "POST /api/v1/orders"]
    assert request.parent == "" and request.trace != TRACE
    assert tracing.trace_id_of(kept(saga_id)) == request.trace


def test_two_sagas_of_one_request_share_its_trace_and_have_a_branch_each(client: FlaskClient, arrived: Arrived) -> None:
    order = 'createOrder(input: {userId: "user-123", items: [{productId: "book-123", quantity: 1}]}) {saga {id}}'
    answer = client.post("/graphql", json={"query": f"mutation {{ a: {order} b: {order} }}"}).get_json()
    sagas = [answer["data"][alias]["saga"]["id"] for alias in "ab"]

    spans = arrived()
    (request,) = [span for span in spans if span.name == "POST /graphql"]
    assert len(set(sagas)) == 2
    for saga_id in sagas:
        (began,) = [span for span in spans if span.name == "saga order" and span.has(saga_id=saga_id)]
        assert began.parent == request.id
        branch = below(began, spans)
        assert {span.attributes["saga.id"] for span in branch if "saga.id" in span.attributes} == {saga_id}
        steps = {span.attributes.get("step") for span in branch if span.has(operation="action")}
        assert steps >= {"create_order", "reserve_stock", "process_payment", "arrange_shipping", "complete_order"}


def test_what_the_standard_s_variables_say_is_kept(monkeypatch: pytest.MonkeyPatch, arrived: Arrived) -> None:
    tracing.stop()
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "bookshop")
    tracing.start(runtime.current().settings, "tests")
    client = create_app().test_client()

    place(client)
    assert arrived() == []
    place(client, traceparent=f"00-{TRACE}-{SPAN}-01")
    assert {span.service for span in arrived()} == {"bookshop"}


def place(client: FlaskClient, body: dict[str, Any] = ORDER, **headers: str) -> str:
    answer = client.post("/api/v1/orders", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.get_json()["saga_id"])


def kept(saga_id: str) -> str | None:
    with runtime.current().database.reading() as session:
        return session.get_one(SagaInstance, saga_id).traceparent


def below(top: Seen, spans: list[Seen]) -> list[Seen]:
    """Return a span and all that descend from it."""
    children = [span for span in spans if span.parent == top.id]
    return [top, *(found for child in children for found in below(child, spans))]
