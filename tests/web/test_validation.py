"""What the edge refuses: by the name that the client gave it, and nothing is done."""

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.http_server.limits import MAX_REQUEST_BODY_BYTES
from tests.testkit.bad_input import BODIES, ZERO, assert_refused, changed, cursor, operations
from tests.testkit.client import Browser
from tests.testkit.web import SEED_ORDER, fields_of, get, post

ORDER, SHORT, PRODUCT = "/api/v1/orders", "/orders", "/api/v1/products"
FORMS = ("/place", "/basket", "/language/ja", "/learn/success", "/catalogue/new/book")
ITEM = {"product_id": "product-1", "quantity": 1}

WRONG: dict[str, dict[str, list[Any]]] = {
    ORDER: {
        "customer_id": ["", "x" * 65, 7, "a\0b", "a\ud800b", "nobody"],
        "items": [[], "product-1", None, [ITEM] * 101],
        "items.0.quantity": [0, -1, 1001, 10**30, 1.5, "2", True, None],
        "items.0.product_id": ["", "\0", ["product-1"], "no-such"],
        "items.0.price": [-0.01, 0.001, 10**10, "100", True],
        "amount": [-1, 123456789012.34],
        "pattern": ["dance"],
        "saga_type": ["unknown"],
        "payment_method": ["cash"],
        "shipping_address": ["", " \t\n", "\u00a0\u3000\u2028", "\u200b\ufeff\u2060\u00ad", "\u3164\u2800", "x" * 501],
        "order_id": ["", "x" * 65, "a/b", "a b", "..", "ordër", "a\n"],
        "simulate": ["payments"],
        "simulate.inventory": ["timeout"],  # it calls no gateway
        "simulate.payments": ["explode", "fail", "fail:0", "fail:100", "undo-fail:x", "", "decline\n"],
        "colour": ["red"],
        "items.0.qty": [1],
        "simulate.mail": ["decline"],
    },
    SHORT: {
        "quantity": [0, "2"],
        "price": [True],
        "customerId": ["", "nobody"],
        "customer_id": ["guest"],
        "bookId": ["", "no-such", "a\0", None],
        "paymentMethod": ["cash"],
    },
    PRODUCT: {
        "name": ["", "x" * 501],
        "price": [-1, 1.001, None],
        "stock_quantity": [-1, 1.5, 1_000_001, True],
        "category_id": ["none"],
        "book_id": ["a/b"],
    },
    "/api/v1/categories": {"name": ["", None, "x" * 201]},
    "/api/v1/inventory/book-123/restock": {"quantity": [0, -1, 1.5, "3", True, None, 1_000_001]},
}


@pytest.mark.parametrize("path", WRONG)
def test_a_wrong_value_is_refused_by_its_name(client: FlaskClient, path: str) -> None:
    for field, values in WRONG[path].items():
        for value in values:
            problem = post(client, path, changed(BODIES[path], field, value), 422)
            assert fields_of(problem) == [field], value
            assert problem["errors"][0]["reason"]

    assert get(client, ORDER)["orders"] == []
    assert len(get(client, "/api/v1/inventory")["books"]) == 6


def test_a_reason_says_what_would_be_right(client: FlaskClient) -> None:
    wrong = {**SEED_ORDER, "colour": "red", "items": [{"quantity": 1}], "simulate": {"payments": "explode"}}

    reasons = {one["field"]: one["reason"] for one in post(client, ORDER, wrong, 422)["errors"]}

    assert reasons["colour"] == "is not a known field"
    assert "named once" in reasons["items.0.book_id"]
    assert "decline, timeout, hang, fail:N or undo-fail:N" in reasons["simulate.payments"]


def test_fields_must_not_contradict_each_other_and_are_missed_by_the_name_of_the_path(client: FlaskClient) -> None:
    twice = post(client, ORDER, {"items": [{**ITEM, "book_id": "product-1"}]}, 422)
    assert fields_of(twice) == ["items.0.book_id"]
    for pattern, saga_type in (
        ("choreography", "order"),
        ("choreography", "order-payment-first"),
        ("orchestration", "order-choreography"),
    ):
        contradiction = post(client, ORDER, {**SEED_ORDER, "pattern": pattern, "saga_type": saga_type}, 422)
        assert fields_of(contradiction) == ["saga_type"]
    for path in (SHORT, "/saga/start"):
        for item in ({}, {"productId": "product-1", "bookId": "product-1"}, {"bookId": None}):
            assert fields_of(post(client, path, {**item, "quantity": 1}, 422)) == ["bookId"]
        for field, wrong in (("productId", "none"), ("customerId", "nobody"), ("orderId", "a b"), ("amount", -1)):
            body = {"productId": "product-1", "quantity": 1, field: wrong}
            assert fields_of(post(client, path, body, 422)) == [field]


def test_the_bounds_themselves_are_accepted(client: FlaskClient, no_messages: None) -> None:
    accepted: dict[str, list[Any]] = {
        "items.0.quantity": [1, 1.0, 1000],
        "items": [[ITEM] * 100],
        "customer_id": [None],
        "shipping_address": ["x" * 500],
        "order_id": ["x" * 64, "..a"],
    }
    for field, values in accepted.items():
        for value in values:
            assert post(client, ORDER, changed(SEED_ORDER, field, value))["status"] == "pending"


NOT_JSON = {
    "nothing": b"",
    "broken": b"{",
    "text": b"nothing",
    "NUL": b"\x00",
    "NaN": b'{"items": NaN}',
    "infinite": b'{"items": [{"price": -Infinity}]}',
    "a huge exponent": b'{"items": [{"price": 1e99999999999999999999}]}',
    "no UTF-8": b'{"items": "\xff"}',
    "half a character": b'{"a": \xed\xa0\x80}',
    "deep": b"[" * 100_000,
    "digits": b'{"items": ' + b"9" * 5000 + b"}",
    "a repeated key": b'{"customer_id": "guest", "items": [], "customer_id": "guest"}',
    "a repeated key inside": b'{"items": [{"quantity": 1, "quantity": 2}]}',
    "a key repeated by an escape": b'{"items": [], "\\u0069tems": []}',
}


@pytest.mark.parametrize("path", BODIES)
def test_what_is_no_json_object_of_our_size_is_refused_wherever_a_body_is_read(client: FlaskClient, path: str) -> None:
    def refused(data: bytes, status: int, content_type: str | None = "application/json") -> str:
        response = client.post(path, data=data, content_type=content_type)
        assert_refused(response, {status}, data[:99])
        assert response.mimetype == "application/problem+json"
        return str(response.get_json()["detail"])

    for text in NOT_JSON.values():
        refused(text, 400)
    for text in (b"[]", b'"{}"', b"null", b"7"):
        assert "object" in refused(text, 422)
    for content_type in (None, "text/plain", "application/x-www-form-urlencoded", "application/x+json"):
        assert "application/json" in refused(b"{}", 415, content_type)
    refused(b" " * (MAX_REQUEST_BODY_BYTES + 1), 413)
    refused(b'{"\\ud800": 1}', 422, "application/json; charset=utf-8")


@pytest.mark.timeout(30)  # counting each key again would take a minute and more
def test_a_repeated_key_is_found_among_very_many(client: FlaskClient) -> None:
    text = b"{" + b"".join(b'"%d":0,' % key for key in range(99_000)) + b'"98999":0}'

    problem = client.post(ORDER, data=text, content_type="application/json").get_json()

    assert "the key '98999' is repeated" in problem["detail"]


QUERIES = {
    "limit": ["0", "101", "many", "9" * 5000],
    "status": ["lost"],
    "customer_id": ["a\0b"],
    "colour": ["red"],
    "cursor": [
        *("nonsense", "\0", "W1tb" * 90),
        *map(cursor, ("[]", '["x", "a"]', '["2024-01-01", 1]')),
        *map(cursor, ('["0001-01-01T00:00:00+23:00", "a"]', r'["2024-01-01", "\u0000"]')),
    ],
}


def test_a_wrong_query_is_refused_by_its_name(client: FlaskClient) -> None:
    def refused(path: str, **query: str) -> list[str]:
        response = client.get(path, query_string=query)
        assert_refused(response, {422}, query)
        return fields_of(response.get_json())

    for field, values in QUERIES.items():
        for value in values:
            assert refused(ORDER, **{field: value}) == [field]
    other_list = get(client, "/api/v1/inventory?limit=1")["next_cursor"]
    for path in (ORDER, "/api/v1/sagas"):
        assert refused(path, cursor=other_list) == ["cursor"]
    for path in ("/api/v1/orders?limit=1&limit=2", "/sagas?status=stuck&status=running", "/?q=a&q=b"):
        assert_refused(client.get(path), {400}, path)  # only one of the two would be taken, and in silence


READ = {
    "/": "q after category customer_id copies.book-123",
    "/catalogue": "cursor category",
    "/sagas": "cursor step limit",
    "/sagas/find": "q",
    "/operator/login": "next",
    "/graphql": "query variables operationName",
    ORDER: "cursor limit customer_id",
}
"""What each page reads of its query; the other lists of the API read theirs as the orders do."""
FORM_FIELDS = (
    "copies.book-123 customer_id payment_method saga_type shipping_address break.payments category q after way key "
    "back name description price category_id stock_quantity book_id quantity"
)
EXCESSIVE = {
    "long": "%" * 26_000,
    "many digits": "9" * 5000,
    "deep cursor": cursor('[{"a":' * 1500),
    "number as a cursor": cursor("[" + "9" * 5000 + "]"),
    "two keys in a cursor": cursor('{"a": 1, "a": 2}'),
}


def test_nothing_long_or_deep_in_a_query_or_a_form_makes_the_server_fail(operator: Browser) -> None:
    for name, value in EXCESSIVE.items():
        for path, fields in READ.items():
            for field in fields.split():
                assert operator.get(path, query_string={field: value}).status_code < 500, (path, field, name)
        for path in FORMS:
            # all at once, and those that another one's refusal would hide by themselves
            for names in (FORM_FIELDS.split(), {"q"}, {"after"}):
                assert operator.post(path, data=dict.fromkeys(names, value)).status_code < 500, (path, names, name)
    sent_on = operator.post("/language/ja", data={"back": "/" + "x" * 5000})
    assert (sent_on.status_code, sent_on.headers["Location"]) == (303, "/")


URLENCODED, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data; boundary=edge"
DISPOSITION, END = b"--edge\r\nContent-Disposition: ", b"\r\n\r\nx\r\n--edge--\r\n"
TOO_MUCH = b"x" * MAX_REQUEST_BODY_BYTES
MALFORMED = [
    (413, URLENCODED, b"shipping_address=" + TOO_MUCH),
    (413, MULTIPART, DISPOSITION + b'form-data; name="shipping_address"\r\n\r\n' + TOO_MUCH),
    (400, URLENCODED, b"q=\xff"),
    (400, MULTIPART, b"nothing"),
    (400, MULTIPART, b"--edge\r\nContent-Type: x" + END),
    *((400, kind, b"--edge") for kind in ("multipart/form-data", "multipart/form-data; boundary=")),
    *(
        (400, MULTIPART, DISPOSITION + no + END)
        for no in (b"form-data", b"attachment", b"", b'form-data; filename="x"')
    ),
]


def test_a_malformed_form_is_not_taken_for_an_empty_one(operator: Browser) -> None:
    for path in FORMS:
        for status, content_type, body in MALFORMED:
            answer = operator.post(path, data=body, content_type=content_type)
            assert_refused(answer, {status}, (path, content_type, body[:99]))


@pytest.mark.parametrize("path", [ORDER, SHORT, "/saga/start"])
def test_an_idempotency_key_that_is_none_is_refused(client: FlaskClient, no_messages: None, path: str) -> None:
    for key in ("x" * 201, "", "schlüssel", "a\tb", "a\x00b", "a\x7f"):
        response = client.post(path, json=BODIES[path], environ_overrides={"HTTP_IDEMPOTENCY_KEY": key})
        assert_refused(response, {422}, key)
        assert fields_of(response.get_json()) == ["Idempotency-Key"]
    for key in ("x" * 200, "' OR 1=1 --", " "):
        response = client.post(path, json=BODIES[path], environ_overrides={"HTTP_IDEMPOTENCY_KEY": key})
        assert_refused(response, {202}, key)


HEADERS: dict[str, list[str]] = {
    "HTTP_HOST": ["a b\x00c", "[::", ""],
    "HTTP_ACCEPT": ["\x00;q=\xff,*/*;q=nan", "application/json;q=1e400"],
    "HTTP_ORIGIN": ["http://\x00"],
    "HTTP_SEC_FETCH_SITE": ["\x00"],
    "HTTP_COOKIE": ["\x00=\xff; =;;;"],
    "HTTP_AUTHORIZATION": ["Basic \xff"],
    "HTTP_IF_MODIFIED_SINCE": ["\xff"],
    "HTTP_X_FORWARDED_FOR": ["\x00"],
    "CONTENT_TYPE": ["application/json; charset=\x00", ";;;\xff", "multipart/form-data; boundary="],
    "CONTENT_LENGTH": ["-1", "many", "9" * 5000],
    "HTTP_TRANSFER_ENCODING": ["gzip"],
    "HTTP_CONTENT_ENCODING": ["gzip"],
}


@pytest.mark.parametrize("header", HEADERS)
def test_no_header_makes_the_server_fail(client: FlaskClient, flask_app: Flask, header: str) -> None:
    routes = list(operations(flask_app, "GET", "POST", "PATCH", "DELETE"))
    assert len(routes) > 40
    for value in HEADERS[header]:
        for method, path in routes:
            where: dict[str, Any] = {"path": re.sub("<.+?>", ZERO, path), "method": method}
            response = client.open(**where, json={}, environ_overrides={header: value})
            assert response.status_code < 500, (value, method, path)
