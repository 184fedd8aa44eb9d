"""What the edge refuses, by the name that the client gave it."""

import copy
import json
from io import BytesIO
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.web.conftest import SEED_ORDER, get, post


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return seed 003's order with one value changed."""
    body: Any = copy.deepcopy(SEED_ORDER)
    *way, last = path.split(".")
    here = body
    for name in way:
        here = here[int(name)] if name.isdigit() else here[name]
    here[last] = value
    return dict(body)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("customer_id", ""),
        ("customer_id", "x" * 65),
        ("customer_id", 7),
        ("customer_id", "a\0b"),
        ("customer_id", "a\ud800b"),
        ("items", []),
        ("items", "product-1"),
        ("items", None),
        ("items", [SEED_ORDER["items"][0]] * 101),
        ("items.0.quantity", 0),
        ("items.0.quantity", -1),
        ("items.0.quantity", 1001),
        ("items.0.quantity", 10**30),
        ("items.0.quantity", 1.5),
        ("items.0.quantity", "2"),
        ("items.0.quantity", True),
        ("items.0.quantity", None),
        ("items.0.product_id", ""),
        ("items.0.product_id", "\0"),
        ("items.0.product_id", ["product-1"]),
        ("items.0.price", -0.01),
        ("items.0.price", 0.001),
        ("items.0.price", 10**10),
        ("items.0.price", "100"),
        ("items.0.price", True),
        ("amount", -1),
        ("amount", 123456789012.34),
        ("pattern", "dance"),
        ("saga_type", "unknown"),
        ("payment_method", "cash"),
        ("shipping_address", ""),
        ("shipping_address", " \t\n"),
        ("shipping_address", "\u00a0\u3000\u2028"),
        ("shipping_address", "\u200b\ufeff\u2060\u00ad"),
        ("shipping_address", "\u3164\u2800"),
        ("shipping_address", "x" * 501),
        ("shipping_address", "half \udc00"),
        ("order_id", ""),
        ("order_id", "x" * 65),
        ("order_id", "a/b"),
        ("order_id", "a b"),
        ("order_id", ".."),
        ("order_id", "ordër"),
        ("order_id", "a\n"),
        ("simulate", "payments"),
        ("colour", "red"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(client: FlaskClient, field: str, value: Any) -> None:
    problem = post(client, "/api/v1/orders", changed(field, value), 422)

    assert problem["status"] == 422
    assert [error["field"] for error in problem["errors"]] == [field]
    assert problem["errors"][0]["reason"]
    assert get(client, "/api/v1/orders")["orders"] == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("items.0.quantity", 1),
        ("items.0.quantity", 1.0),
        ("items.0.quantity", 1000),
        ("items", [{"product_id": "product-1", "quantity": 1}] * 100),
        ("items.0.price", 100),
        ("customer_id", None),
        ("shipping_address", "x" * 500),
        ("order_id", "x" * 64),
        ("order_id", "..a"),
    ],
)
def test_the_bounds_themselves_are_accepted(client: FlaskClient, field: str, value: Any) -> None:
    assert post(client, "/api/v1/orders", changed(field, value))["status"] == "pending"


def test_an_unknown_field_is_told_of_as_unknown_wherever_it_is(client: FlaskClient) -> None:
    body = {"items": [{"product_id": "product-1", "quantity": 1, "qty": 1}], "colour": "red", "simulate": {"mail": "x"}}

    problem = post(client, "/api/v1/orders", body, 422)

    assert {(error["field"], error["reason"]) for error in problem["errors"]} == {
        ("items.0.qty", "is not a known field"),
        ("colour", "is not a known field"),
        ("simulate.mail", "is not a known field"),
    }


@pytest.mark.parametrize("item", [{}, {"product_id": "product-1", "book_id": "product-1"}])
def test_a_book_is_named_once(client: FlaskClient, item: dict[str, str]) -> None:
    problem = post(client, "/api/v1/orders", {"items": [{**item, "quantity": 1}]}, 422)

    assert [error["field"] for error in problem["errors"]] == ["items.0.book_id"]
    assert "named once" in problem["errors"][0]["reason"]


@pytest.mark.parametrize("path", ["/orders", "/saga/start"])
@pytest.mark.parametrize("item", [{}, {"productId": "product-1", "bookId": "product-1"}, {"bookId": None}])
def test_a_book_is_missed_by_the_name_of_the_path(client: FlaskClient, path: str, item: dict[str, str]) -> None:
    problem = post(client, path, {**item, "quantity": 1}, 422)

    assert [error["field"] for error in problem["errors"]] == ["bookId"]


@pytest.mark.parametrize(
    ("pattern", "saga_type"),
    [("choreography", "order"), ("choreography", "order-payment-first"), ("orchestration", "order-choreography")],
)
def test_pattern_and_saga_type_must_not_contradict_each_other(
    client: FlaskClient, pattern: str, saga_type: str
) -> None:
    problem = post(client, "/api/v1/orders", {**SEED_ORDER, "pattern": pattern, "saga_type": saga_type}, 422)

    assert [error["field"] for error in problem["errors"]] == ["saga_type"]


@pytest.mark.parametrize("fault", ["explode", "fail", "fail:0", "fail:100", "undo-fail:x", "", "decline\n"])
def test_a_fault_nobody_knows_is_refused_with_those_that_are_known(client: FlaskClient, fault: str) -> None:
    problem = post(client, "/api/v1/orders", {**SEED_ORDER, "simulate": {"payments": fault}}, 422)

    assert [error["field"] for error in problem["errors"]] == ["simulate.payments"]
    assert "decline, timeout, hang, fail:N or undo-fail:N" in problem["errors"][0]["reason"]


def test_a_time_out_is_refused_where_no_gateway_is_called(client: FlaskClient) -> None:
    problem = post(client, "/api/v1/orders", {**SEED_ORDER, "simulate": {"inventory": "timeout"}}, 422)

    assert [error["field"] for error in problem["errors"]] == ["simulate.inventory"]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"nothing",
        b'{"items": NaN}',
        b'{"items": [{"product_id": "product-1", "quantity": 1, "price": -Infinity}]}',
        b'{"items": [{"product_id": "product-1", "quantity": 1, "price": 1e99999999999999999999}]}',
        b'{"items": "\xff"}',
        b"[" * 100_000,
        b'{"items": ' + b"9" * 5000 + b"}",
        b'{"customer_id": "guest", "items": [{"product_id": "product-1", "quantity": 1}], "customer_id": "guest"}',
        b'{"items": [{"product_id": "product-1", "quantity": 1, "quantity": 2}]}',
        b'{"items": [{"product_id": "product-1", "quantity": 1}], "\\u0069tems": []}',
    ],
)
def test_a_body_that_is_no_json_is_a_bad_request(client: FlaskClient, text: bytes) -> None:
    response = client.post("/api/v1/orders", data=text, content_type="application/json")

    assert (response.status_code, response.mimetype) == (400, "application/problem+json")


@pytest.mark.timeout(30)  # counting each key again would take a minute and more
def test_a_repeated_key_is_found_among_very_many(client: FlaskClient) -> None:
    text = b"{" + b"".join(b'"%d":0,' % key for key in range(99_000)) + b'"98999":0}'

    problem = client.post("/api/v1/orders", data=text, content_type="application/json").get_json()

    assert "the key '98999' is repeated" in problem["detail"]


@pytest.mark.parametrize("digits", [b"9" * 5000, b"-" + b"9" * 5000, b"0." + b"9" * 5000])
def test_a_number_of_thousands_of_digits_is_refused_in_our_words(client: FlaskClient, digits: bytes) -> None:
    text = b'{"items": [{"product_id": "product-1", "quantity": ' + digits + b"}]}"

    problem = client.post("/api/v1/orders", data=text, content_type="application/json").get_json()

    assert f"a number has {len(digits)} characters, at most 100 are allowed" in problem["detail"]
    assert "set_int_max_str_digits" not in problem["detail"]


@pytest.mark.parametrize("text", [b"[]", b'"{}"', b"null", b"7"])
def test_a_body_that_is_no_object_is_refused(client: FlaskClient, text: bytes) -> None:
    response = client.post("/api/v1/orders", data=text, content_type="application/json")

    assert response.status_code == 422
    assert "object" in response.get_json()["detail"]


@pytest.mark.parametrize("path", ["/api/v1/orders", "/orders", "/saga/start", "/api/v1/products"])
@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/x+json"]
)
def test_a_body_of_another_type_is_refused(client: FlaskClient, path: str, content_type: str | None) -> None:
    response = client.post(path, data=b"{}", content_type=content_type)

    assert (response.status_code, response.mimetype) == (415, "application/problem+json")
    assert "application/json" in response.get_json()["detail"]


def test_json_may_say_its_character_set(client: FlaskClient) -> None:
    response = client.post("/api/v1/orders", data=b"{}", content_type="application/json; charset=utf-8")

    assert response.status_code == 422


def test_a_body_larger_than_a_mebibyte_is_refused(client: FlaskClient) -> None:
    response = client.post("/api/v1/orders", data=b" " * (1024 * 1024 + 1), content_type="application/json")

    assert (response.status_code, response.mimetype) == (413, "application/problem+json")


@pytest.mark.parametrize(("length", "status"), [(1024 * 1024, 202), (1024 * 1024 + 1, 413)])
@pytest.mark.parametrize("chunked", [False, True])
def test_the_limit_of_a_body_does_not_depend_on_how_it_is_framed(
    client: FlaskClient, length: int, status: int, chunked: bool
) -> None:
    body = json.dumps(SEED_ORDER).encode().ljust(length)
    framing: dict[str, Any] = (
        {"headers": {"Transfer-Encoding": "chunked"}, "environ_overrides": {"wsgi.input_terminated": True}}
        if chunked
        else {"content_length": length}
    )

    response = client.post("/api/v1/orders", input_stream=BytesIO(body), content_type="application/json", **framing)

    assert response.status_code == status


def test_a_larger_body_is_refused_also_where_its_length_is_not_said(client: FlaskClient) -> None:
    # given what would be an order if it were cut off at the limit
    body = json.dumps(SEED_ORDER).encode().ljust(1024 * 1024) + b"and more"

    response = client.post(
        "/api/v1/orders",
        input_stream=BytesIO(body),
        content_type="application/json",
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )

    assert response.status_code == 413
    assert get(client, "/api/v1/orders")["orders"] == []


def test_a_field_whose_name_is_no_text_is_told_of(client: FlaskClient) -> None:
    text = b'{"items": [{"product_id": "product-1", "quantity": 1}], "\\ud800": 1}'

    response = client.post("/api/v1/orders", data=text, content_type="application/json")

    assert (response.status_code, response.mimetype) == (422, "application/problem+json")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=many", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("status=lost", "status"),
        ("customer_id=a%00b", "customer_id"),
        ("colour=red", "colour"),
        ("cursor=nonsense", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=" + "W1tb" * 90, "cursor"),  # [[[ and so on
        ("cursor=W10", "cursor"),  # []
        ("cursor=WyJ4IiwgImEiXQ", "cursor"),  # ["x", "a"]
        ("cursor=WyIyMDI0LTAxLTAxIiwgMV0", "cursor"),  # ["2024-01-01", 1]
        ("cursor=WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzIzOjAwIiwgImEiXQ", "cursor"),  # ["0001-01-01T00:00:00+23:00", "a"]
        ("cursor=WyIyMDI0LTAxLTAxIiwgIlx1MDAwMCJd", "cursor"),  # ["2024-01-01", "\u0000"]
    ],
)
def test_a_wrong_query_is_refused_by_its_name(client: FlaskClient, query: str, field: str) -> None:
    problem = get(client, f"/api/v1/orders?{query}", 422)

    assert [error["field"] for error in problem["errors"]] == [field]


def test_a_cursor_of_another_list_is_refused(client: FlaskClient) -> None:
    cursor = get(client, "/api/v1/inventory?limit=1")["next_cursor"]

    assert get(client, f"/api/v1/orders?cursor={cursor}", 422)["errors"][0]["field"] == "cursor"
    assert get(client, f"/api/v1/sagas?cursor={cursor}", 422)["errors"][0]["field"] == "cursor"


@pytest.mark.parametrize(
    "path",
    ["/api/v1/orders/%00", "/api/v1/orders/%00/events", "/api/v1/inventory/%00", "/api/v1/sagas/%00", "/orders/%00"],
)
def test_a_nul_in_a_path_is_refused(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 422
