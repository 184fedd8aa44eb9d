"""Strange paths, queries, headers and forms, on every route that there is: never a 500."""

import re
from urllib.parse import urlencode

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.web.bad_input.strange import NAMES, PATHS, QUERY, ZERO, assert_refused, operations
from tests.web.conftest import SEED_ORDER, get
from web.problems import API_PATHS


@pytest.mark.parametrize("name", PATHS)
def test_an_id_that_is_none(client: FlaskClient, flask_app: Flask, name: str) -> None:
    asked = 0
    for method, path in operations(flask_app, "GET", "POST", "PATCH", "DELETE"):
        if "<" in path:
            way = re.sub("<.+?>", PATHS[name], path)
            what = {} if method == "GET" else {"json": good_body(path)} if is_api(path) else {"data": {"by": "Ann"}}
            response = client.open(way, method=method, **what)
            # a step that nothing is stuck on has a page that says so
            fine = {200, 303} if path.startswith("/stuck/") else set()
            assert_refused(response, {404, 405, 422} | fine, (method, path))
            asked += 1
    assert asked > 15


def is_api(path: str) -> bool:
    """Tell whether a path takes JSON; the pages take forms."""
    return path.startswith(API_PATHS)


def good_body(path: str) -> dict[str, object]:
    """Return what an operation on one thing can be told."""
    if path.endswith("restock"):
        return {"quantity": 1}
    if path.endswith("skip"):
        return {"by": "Ann"}
    return {"shipping_address" if path.startswith("/api/") else "shippingAddress": "Rue Morgue"}


LISTS = {
    "/api/v1/orders": ("limit", "cursor", "status", "customer_id", "customer"),
    "/api/v1/sagas": ("limit", "cursor", "status", "saga_type", "type", "step"),
    "/api/v1/inventory": ("limit", "cursor", "category_id"),
    "/api/v1/categories": ("limit", "cursor"),
}
ANY_TEXT = {"customer_id", "customer", "category_id", "step"}
"""What is looked for as it is: what does not exist is found nowhere."""


@pytest.mark.parametrize("path", LISTS)
def test_a_query_that_is_none(client: FlaskClient, path: str) -> None:
    for name, value in PATHS.items():
        for field in (*LISTS[path], value):
            statuses = {200, 422} if field in ANY_TEXT else {422}
            assert_refused(client.get(f"{path}?{field}={value}"), statuses, (field, name))
    for field in ANY_TEXT & set(LISTS[path]):
        assert_refused(client.get(f"{path}?{field}=%00"), {422}, field)


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/nothing"])
def test_a_query_that_nobody_reads(client: FlaskClient, path: str) -> None:
    for name, value in PATHS.items():
        response = client.get(f"{path}?{value}={value}")
        assert_refused(response, {404 if path == "/nothing" else 200}, name)


READ = {
    "/": ("q", "after", "category", "customer_id", "copies.book-123"),
    "/catalogue": ("cursor", "category"),
    "/sagas": ("cursor", "step", "limit"),
    "/sagas/find": ("q",),
    "/operator/login": ("next",),
    "/graphql": ("query", "variables", "operationName"),
    "/api/v1/orders": ("cursor", "limit", "customer_id"),
}
"""What each page reads of its query; the other lists of the API read theirs as the orders do."""


@pytest.mark.parametrize("value", QUERY)
def test_no_parameter_of_a_query_makes_the_server_fail(client: FlaskClient, value: str) -> None:
    for path, names in READ.items():
        for name in names:
            response = client.get(path, query_string={name: QUERY[value]})
            assert response.status_code < 500, (path, name, response.text[:300])


@pytest.mark.parametrize("path", ["/place", "/basket", "/language/ja", "/learn/success", "/catalogue/new/book"])
def test_no_field_of_a_form_makes_the_server_fail(client: FlaskClient, path: str) -> None:
    for name, value in QUERY.items():
        # all at once, and those that another one's refusal would hide by themselves
        for names in (NAMES, ("q",), ("after",)):
            response = client.post(path, data=dict.fromkeys(names, value))
            assert response.status_code < 500, (name, names, response.text[:300])


@pytest.mark.parametrize("path", ["/api/v1/orders?limit=1&limit=2", "/sagas?status=stuck&status=running", "/?q=a&q=b"])
def test_a_parameter_that_is_given_twice_is_refused(client: FlaskClient, path: str) -> None:
    """Only one of the two would be taken, and in silence."""
    assert_refused(client.get(path), {400}, path)


def test_nobody_is_sent_on_to_an_address_that_servers_refuse(client: FlaskClient) -> None:
    response = client.post("/language/ja", data={"back": "/" + "x" * 5000})

    assert (response.status_code, response.headers["Location"]) == (303, "/")


KEYS = [
    ("x" * 200, 202),
    ("' OR 1=1 --", 202),
    (" ", 202),
    ("x" * 201, 422),
    ("", 422),
    ("schlüssel", 422),
    ("a\tb", 422),
    ("a\x00b", 422),
    ("a\x7f", 422),
]


@pytest.mark.parametrize("path", ["/api/v1/orders", "/orders", "/saga/start"])
def test_an_idempotency_key_that_is_none(client: FlaskClient, path: str) -> None:
    body = SEED_ORDER if path.startswith("/api") else {"productId": "product-1", "quantity": 1}
    for key, status in KEYS:
        response = client.post(path, json=body, environ_overrides={"HTTP_IDEMPOTENCY_KEY": key})

        # a good one may have been used on another path before
        assert_refused(response, {status, 422}, key)
        if response.status_code == 422:
            assert response.get_json()["errors"][0]["field"] == "Idempotency-Key"


HEADERS: list[dict[str, str]] = [
    {"HTTP_HOST": "a b\x00c"},
    {"HTTP_HOST": "[::"},
    {"HTTP_HOST": ""},
    {"HTTP_ACCEPT": "\x00;q=\xff,*/*;q=nan"},
    {"HTTP_ACCEPT": "application/json;q=1e400"},
    {"HTTP_ORIGIN": "http://\x00"},
    {"HTTP_SEC_FETCH_SITE": "\x00"},
    {"HTTP_COOKIE": "\x00=\xff; =;;;"},
    {"HTTP_AUTHORIZATION": "Basic \xff"},
    {"HTTP_IF_MODIFIED_SINCE": "\xff"},
    {"HTTP_X_FORWARDED_FOR": "\x00"},
    {"CONTENT_TYPE": "application/json; charset=\x00"},
    {"CONTENT_TYPE": ";;;\xff"},
    {"CONTENT_TYPE": "multipart/form-data; boundary="},
    {"CONTENT_LENGTH": "-1"},
    {"CONTENT_LENGTH": "many"},
    {"CONTENT_LENGTH": "9" * 5000},
    {"HTTP_TRANSFER_ENCODING": "gzip"},
    {"HTTP_CONTENT_ENCODING": "gzip"},
]


def test_a_header_that_is_none(client: FlaskClient, flask_app: Flask) -> None:
    for header in HEADERS:
        for method, path in operations(flask_app, "GET", "POST", "PATCH", "DELETE"):
            way = re.sub("<.+?>", ZERO, path)
            response = client.open(
                way, method=method, data=b"{}", content_type="application/json", environ_overrides=header
            )
            assert response.status_code < 500, (header, method, path, response.text)


FORM = (
    *("book_id", "quantity", "customer_id", "payment_method", "saga_type", "shipping_address", "service", "fault"),
    *("key", "unknown"),
)


@pytest.mark.parametrize("field", FORM)
def test_a_form_with_strange_fields(client: FlaskClient, field: str) -> None:
    good = {
        "book_id": "book-123",
        "quantity": "1",
        "customer_id": "guest",
        "payment_method": "credit_card",
        "saga_type": "order",
    }
    rest = urlencode({name: value for name, value in good.items() if name != field})
    for name, value in PATHS.items():
        form = f"{rest}&{field}={value}"
        response = client.post("/place", data=form, content_type="application/x-www-form-urlencoded")
        harmless = field in {"shipping_address", "key", "fault", "unknown"}
        assert_refused(response, {303, 422} if harmless else {422}, name)


def test_every_documented_route_says_that_an_id_may_be_unknown(client: FlaskClient) -> None:
    document = get(client, "/openapi/openapi.json")
    asked = 0
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if "{" in path:
                way = re.sub("{.+?}", ZERO, path)
                response = client.open(way, method=method.upper(), json=None if method == "get" else good_body(path))
                assert response.status_code == 404, (method, path)
                assert "404" in operation["responses"], (method, path)
                asked += 1
    assert asked > 10
