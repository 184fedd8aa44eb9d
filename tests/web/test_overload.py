"""A shop with too much to do rejects orders, before anything is stored, and goes on with everything else."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client import generate_latest

from app.celery import app as celery
from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas.admission import MAX_RETRY_SECONDS
from durable_sagas.definition import SagaStatus
from durable_sagas.models import SagaInstance
from tests.metrics.scrapes import of, own, parse
from tests.testkit.client import Browser
from tests.testkit.messages import Clock
from tests.testkit.web import BROWSES, SEED_ORDER, error, get, hidden, place, post, text_of
from tests.web.test_order_page import FORM, entered
from workflows.operations.gauges import Gauges

SHORT_ORDER = {"customerId": "customer-123", "productId": "product-1", "quantity": 1, "price": 100}

Cap = Callable[[int | None], None]


@pytest.fixture
def cap(here: Runtime, clock: Clock, no_messages: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cap]:
    """Limit the unfinished sagas to this number: none of them ends, as their messages are lost."""
    monkeypatch.setitem(celery.conf, "task_always_eager", False)
    settings = here.settings

    def limit(number: int | None) -> None:
        here.settings = settings.but(max_unfinished=number)
        sagas.reset_binding()

    yield limit
    here.settings = settings
    sagas.reset_binding()


def number_of_orders(client: FlaskClient) -> int:
    return len(get(client, "/api/v1/orders")["orders"])


@pytest.mark.parametrize(
    ("path", "order"), [("/api/v1/orders", SEED_ORDER), ("/orders", SHORT_ORDER), ("/saga/start", SHORT_ORDER)]
)
def test_an_order_is_rejected_before_it_is_stored_and_says_when_to_retry(
    client: FlaskClient, cap: Cap, path: str, order: dict[str, Any]
) -> None:
    place(client, SEED_ORDER)
    cap(1)

    response = client.post(path, json=order)

    assert (response.status_code, response.mimetype) == (503, "application/problem+json")
    seconds = int(response.headers["Retry-After"])
    assert 1 <= seconds <= MAX_RETRY_SECONDS
    problem = response.get_json()
    assert (problem["type"], problem["instance"]) == ("/problems/overloaded", path)
    assert problem["detail"] == f"too much is waiting to be served, try again in {seconds} s"
    assert problem["facts"] == {"retry_after": seconds}
    assert number_of_orders(client) == 1


def test_graphql_rejects_with_the_same_problem(client: FlaskClient, cap: Cap) -> None:
    place(client, SEED_ORDER)
    cap(1)

    said = error(client, 'mutation { createOrder(input: {items: [{productId: "item-001", quantity: 1}]}) { id } }')

    assert (said["extensions"]["type"], said["extensions"]["status"]) == ("/problems/overloaded", 503)
    assert said["extensions"]["facts"]["retry_after"] >= 1


def test_a_rejected_order_that_is_sent_again_with_its_key_is_one_order(client: FlaskClient, cap: Cap) -> None:
    place(client, SEED_ORDER)
    key = {"Idempotency-Key": "again"}
    cap(1)
    assert client.post("/api/v1/orders", json=SEED_ORDER, headers=key).status_code == 503

    cap(2)
    first, second = (client.post("/api/v1/orders", json=SEED_ORDER, headers=key) for _ in range(2))

    assert first.status_code == second.status_code == 202
    assert first.get_json()["order_id"] == second.get_json()["order_id"]
    assert number_of_orders(client) == 2


def test_an_accepted_order_that_is_repeated_is_answered_and_not_counted_as_rejected(
    client: FlaskClient, cap: Cap
) -> None:
    key, own_id = {"Idempotency-Key": "mine"}, {**SEED_ORDER, "order_id": "order-of-mine"}
    requests: list[dict[str, Any]] = [{"json": SEED_ORDER, "headers": key}, {"json": own_id}]
    first = [client.post("/api/v1/orders", **request).get_json() for request in requests]
    cap(1)
    before = of(own(), "saga_admissions_refused_total")

    assert [client.post("/api/v1/orders", **request).get_json() for request in requests] == first
    assert of(own(), "saga_admissions_refused_total") == before

    different = client.post("/api/v1/orders", json={**SEED_ORDER, "customer_id": "customer-001"}, headers=key)
    assert different.status_code == 422  # the key is another request's, however busy the shop is
    assert number_of_orders(client) == 2


def test_reading_changing_and_cancelling_go_on(client: FlaskClient, cap: Cap) -> None:
    order = post(client, "/api/v1/orders", SEED_ORDER)
    cap(1)
    path = f"/api/v1/orders/{order['order_id']}"

    assert client.get(path).status_code == 200
    assert client.get("/sagas").status_code == 200
    assert client.get("/").status_code == 200
    assert client.patch(path, json={"shipping_address": "elsewhere"}).status_code == 200
    assert client.post(f"/api/v1/sagas/{order['saga_id']}/resume").status_code == 202
    assert client.delete(path).status_code == 202


def test_orders_are_accepted_again_when_enough_have_ended(
    client: FlaskClient, cap: Cap, here: Runtime, clock: Clock
) -> None:
    saga_id = place(client, SEED_ORDER)
    cap(1)
    assert client.post("/api/v1/orders", json=SEED_ORDER).status_code == 503

    with here.database.transaction() as session:
        session.get_one(SagaInstance, saga_id).status = SagaStatus.COMPLETED
    clock.forward(1)
    assert client.post("/api/v1/orders", json=SEED_ORDER).status_code == 202


@pytest.mark.parametrize(
    ("language", "asked"), [("en", "Please send it again in"), ("ja", "秒後にもう一度お送りください")]
)
def test_the_order_form_keeps_what_was_entered_and_can_be_sent_again(
    client: FlaskClient, cap: Cap, language: str, asked: str
) -> None:
    place(client, SEED_ORDER)
    cap(1)
    form = {**FORM, "shipping_address": "1 Long Road", "key": "page-1"}

    page = client.post("/place", data=form, headers={**BROWSES, "Accept-Language": language})

    assert page.status_code == 503
    assert int(page.headers["Retry-After"]) >= 1
    assert asked in page.text
    kept = entered(page)
    assert {name: kept[name] for name in form} == form
    cap(2)
    assert client.post("/place", data=form).status_code == 303
    assert number_of_orders(client) == 2


def test_of_an_order_both_ways_what_was_rejected_is_placed_by_sending_it_again(client: FlaskClient, cap: Cap) -> None:
    form = {**FORM, "key": "page-1", "way": "both"}
    cap(1)
    page = client.post("/place", data=form, headers=BROWSES)
    assert (page.status_code, number_of_orders(client)) == (503, 1)
    assert "Only one of the two orders was placed." in page.text

    cap(2)
    assert client.post("/place", data={**form, "key": entered(page)["key"]}).status_code == 303
    assert number_of_orders(client) == 2


def test_a_scenario_is_rejected_on_its_page_and_can_be_played_later(client: FlaskClient, cap: Cap) -> None:
    place(client, SEED_ORDER)
    cap(1)
    form = {"key": "page-1", "way": "order"}

    page = client.post("/learn/success", data=form, headers=BROWSES)

    assert page.status_code == 503
    assert int(page.headers["Retry-After"]) >= 1
    assert "Please send it again in" in text_of(page)
    assert hidden(page, "key") == "page-1"
    cap(None)
    assert client.post("/learn/success", data=form).status_code == 303


def test_operators_see_whether_orders_are_accepted(operator: Browser, cap: Cap, clock: Clock) -> None:
    place(operator, SEED_ORDER)
    clock.forward(1)
    for path in ("/sagas", "/sagas/incidents"):
        assert "Orders are accepted: 1 are unfinished, and the limit is 1,500." in text_of(operator.get(path))
    cap(1)
    for path in ("/sagas", "/sagas/incidents"):
        said = "No new orders are accepted: 1 are unfinished, and the limit is 1."
        assert said in text_of(operator.get(path))


def test_the_limit_and_what_was_rejected_are_metrics(client: FlaskClient, cap: Cap) -> None:
    place(client, SEED_ORDER)
    cap(1)
    before = of(own(), "saga_admissions_refused_total")

    for _ in range(2):
        client.post("/api/v1/orders", json=SEED_ORDER)

    assert of(own(), "saga_admissions_refused_total") == before + 2
    assert of(parse(generate_latest(Gauges().registry).decode()), "saga_admission_limit") == 1


def test_orders_document_the_problem(client: FlaskClient) -> None:
    paths = get(client, "/openapi/openapi.json")["paths"]

    for path in ("/api/v1/orders", "/orders", "/saga/start"):
        unavailable = paths[path]["post"]["responses"]["503"]
        assert unavailable["content"]["application/problem+json"]["example"]["type"] == "/problems/overloaded"
        assert "Retry-After" in unavailable["headers"]
