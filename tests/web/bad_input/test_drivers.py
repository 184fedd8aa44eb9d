"""What passes into a database driver is refused by name or stored as is, by PostgreSQL too, which raises more."""

import json
import re
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.migrations import migrate
from app.settings import Settings
from tests.testkit.bad_input import (
    BODIES,
    IDS,
    NUMBER_FIELDS,
    NUMBERS,
    STORABLE,
    TEXT_FIELDS,
    UNSTORABLE,
    ZERO,
    assert_refused,
    changed,
    fields,
    operations,
)
from tests.testkit.client import PASSWORD, Browser
from tests.testkit.servers import fresh_postgresql_database, require_postgresql
from tests.testkit.web import get
from web.problems import API_PATHS
from workflows.seed_data import seed


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def databases(request: pytest.FixtureRequest) -> Iterator[str | None]:
    if request.param == "sqlite":
        yield None
    else:
        require_postgresql()
        with fresh_postgresql_database() as url:
            migrate(url)
            yield url


@pytest.fixture
def settings(settings: Settings, databases: str | None) -> Settings:
    return settings.but(database_url=databases or settings.database_url, operator_password=PASSWORD)


@pytest.fixture
def client(flask_app: Flask, no_messages: None) -> Browser:
    """An operator: whoever may do more meets more of the code."""
    seed()
    client = Browser(flask_app)
    assert client.log_in().status_code == 303
    return client


FREE = {"shipping_address", "shippingAddress", "name", "description"}
"""Texts that may be anything that can be stored."""


def good_body(path: str) -> dict[str, object]:
    """Return what an operation on one thing can be told."""
    if path.endswith("restock"):
        return {"quantity": 1}
    if path.endswith("skip"):
        return {"by": "Ann"}
    return {"shipping_address" if path.startswith("/api/") else "shippingAddress": "Rue Morgue"}


def test_an_id_that_is_none(client: FlaskClient, flask_app: Flask) -> None:
    routes = [(method, path) for method, path in operations(flask_app, "GET", "POST", "PATCH", "DELETE") if "<" in path]
    assert len(routes) > 15

    for name, strange in IDS.items():
        for method, path in routes:
            form = {"json": good_body(path)} if path.startswith(API_PATHS) else {"data": {"by": "Ann"}}
            response = client.open(re.sub("<.+?>", strange, path), method=method, **({} if method == "GET" else form))
            # a step that nothing is stuck on has a page that says so
            fine = {200, 303} if path.startswith("/stuck/") else set()
            assert_refused(response, {404, 405, 422} | fine, (method, path, name))


def test_every_documented_route_says_that_an_id_may_be_unknown(client: FlaskClient) -> None:
    document = get(client, "/openapi/openapi.json")["paths"]
    routes = [(method, path) for path, item in document.items() for method in item if "{" in path]
    assert len(routes) > 10

    for method, path in routes:
        body = None if method == "get" else good_body(path)
        response = client.open(re.sub("{.+?}", ZERO, path), method=method, json=body)
        assert_refused(response, {404}, (method, path))
        assert "404" in document[path][method]["responses"], (method, path)


LISTS = {
    "/api/v1/orders": "limit cursor status customer_id customer",
    "/api/v1/sagas": "limit cursor status saga_type type step",
    "/api/v1/inventory": "limit cursor category_id",
    "/api/v1/categories": "limit cursor",
}
ANY_TEXT = {"customer_id", "customer", "category_id", "step"}
"""What is looked for as it is: what does not exist is found nowhere."""


def test_a_query_that_is_none(client: FlaskClient) -> None:
    for path, field in fields(LISTS):
        for name, strange in IDS.items():
            statuses = {200, 422} if field in ANY_TEXT else {422}
            assert_refused(client.get(f"{path}?{field}={strange}"), statuses, (path, field, name))
        assert_refused(client.get(f"{path}?{field}=%00"), {422}, (path, field))


def test_a_strange_text_is_stored_as_it_is_or_refused_by_its_name(client: FlaskClient) -> None:
    for path, field in fields(TEXT_FIELDS):
        for name, text in {**STORABLE, **UNSTORABLE}.items():
            response = client.post(path, json=changed(BODIES[path], field, text))
            if field not in FREE or name in UNSTORABLE:
                assert_refused(response, {422}, (field, name))
                assert response.get_json()["errors"][0]["field"] == field, name
                continue
            assert_refused(response, {201, 202}, (field, name))
            made = response.get_json()
            if "address" in field.lower():
                made = get(client, f"/api/v1/orders/{made.get('order_id') or made['orderId']}")
            assert text in {made.get(stored) for stored in ("name", "title", "description", "shipping_address")}
    assert client.get("/").status_code == 200


def test_a_number_out_of_its_bounds_is_refused(client: FlaskClient) -> None:
    for path, field in fields(NUMBER_FIELDS):
        money = field.rpartition(".")[2] in {"price", "amount"}
        for number in NUMBERS:
            body = json.dumps(changed(BODIES[path], field, "@")).replace('"@"', number)
            response = client.post(path, data=body, content_type="application/json")
            if number == "null" and money and "products" not in path:
                assert_refused(response, {202}, (field, number))  # not said at all
            elif number in {"1.5", "2147483648"} and money:
                assert_refused(response, {201, 409}, (field, number))  # an amount like any other
            else:
                assert_refused(response, {400, 422}, (field, number))


def test_the_bounds_of_stock_and_price(client: FlaskClient) -> None:
    quantity = '{{"quantity": {}}}'.format
    product = '{{"name": "A", "price": {}, "stock_quantity": {}}}'.format
    for path, bodies, status in (
        ("/api/v1/inventory/item-001/restock", [quantity("1e3"), quantity("1000000.0")], 200),
        ("/api/v1/inventory/item-001/restock", [quantity("1000001"), quantity("0")], 422),
        ("/api/v1/products", [product("9999999999.99", 1000000), product("0.01", 0), product("-0.0", "-0")], 201),
        ("/api/v1/products", [product("1e10", 1), product("0.001", 0), product(0, 1000001)], 422),
    ):
        for body in bodies:
            assert_refused(client.post(path, data=body, content_type="application/json"), {status}, body)


def test_what_a_form_says_is_stored_as_it_is_or_refused(client: FlaskClient) -> None:
    form = {"book_id": "book-123", "copies.book-123": "1", "payment_method": "credit_card", "saga_type": "order"}
    for field in ("customer_id", "shipping_address", "key"):
        for name, text in {**STORABLE, "NUL": "\0"}.items():
            response = client.post("/place", data={**form, "key": name, field: text})
            assert_refused(response, {422} if field == "customer_id" else {303, 422}, (field, name))
