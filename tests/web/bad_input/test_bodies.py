"""Strange texts and numbers in bodies: refused by name, or stored as they are."""

import re
from io import BytesIO

import pytest
from flask import Flask
from flask.testing import FlaskClient
from gunicorn.http.errors import InvalidChunkSize

from app.http_server.limits import MAX_REQUEST_BODY_BYTES
from tests.web.bad_input.strange import NUMBERS, STORABLE, UNSTORABLE, assert_refused, text_fields
from tests.web.conftest import get

FREE = {"shipping_address", "shippingAddress", "name", "description"}
"""Texts that may be anything that can be stored."""


@pytest.mark.parametrize("kind", STORABLE)
def test_a_strange_text_is_stored_as_it_is_or_refused(client: FlaskClient, kind: str) -> None:
    text = STORABLE[kind]
    for path, field, body in text_fields():
        response = client.post(path, json=body(text))
        if field not in FREE:
            assert_refused(response, {422}, (path, field))
            continue
        assert response.status_code in {201, 202}, (path, field, response.text)
        made = response.get_json()
        if "order" in path or "saga" in path:
            made = get(client, f"/api/v1/orders/{made.get('order_id') or made['orderId']}")
            assert made["shipping_address"] == text
        else:
            assert text in {made.get("name"), made.get("title"), made["description"]}
    assert client.get("/").status_code == 200


@pytest.mark.parametrize("kind", UNSTORABLE)
def test_what_cannot_be_stored_is_refused_in_every_text(client: FlaskClient, kind: str) -> None:
    for path, field, body in text_fields():
        response = client.post(path, json=body(UNSTORABLE[kind]))
        assert_refused(response, {422}, (path, field))
        assert response.get_json()["errors"][0]["field"].rpartition(".")[2] == field.rpartition(".")[2], (path, field)


def test_a_text_of_half_a_mebibyte_is_refused_in_every_field(client: FlaskClient) -> None:
    for path, field, body in text_fields():
        assert_refused(client.post(path, json=body("x" * 500_000)), {422}, (path, field))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/orders", '{"items": [{"product_id": "product-1", "quantity": %s}]}'),
        ("/api/v1/orders", '{"items": [{"product_id": "product-1", "quantity": 1, "price": %s}]}'),
        ("/api/v1/orders", '{"items": [{"product_id": "product-1", "quantity": 1}], "amount": %s}'),
        ("/orders", '{"productId": "product-1", "quantity": %s}'),
        ("/orders", '{"productId": "product-1", "quantity": 1, "price": %s}'),
        ("/saga/start", '{"productId": "product-1", "quantity": 1, "amount": %s}'),
        ("/api/v1/products", '{"name": "A", "stock_quantity": 1, "price": %s}'),
        ("/api/v1/products", '{"name": "A", "stock_quantity": %s, "price": 1}'),
        ("/api/v1/inventory/book-123/restock", '{"quantity": %s}'),
    ],
)
def test_a_number_out_of_its_bounds(client: FlaskClient, path: str, body: str) -> None:
    money = re.search('"(price|amount)": %s', body) is not None
    for number in NUMBERS:
        response = client.post(path, data=body % number, content_type="application/json")

        if number == "null" and money and "products" not in path:
            assert_refused(response, {202}, number)  # not said at all
        elif number in {"1.5", "2147483648"} and money:
            assert_refused(response, {201, 409}, number)  # an amount like any other
        else:
            assert_refused(response, {400, 422}, number)


@pytest.mark.parametrize(
    ("path", "body", "statuses"),
    [
        ("/api/v1/inventory/item-001/restock", '{"quantity": 1e3}', {200}),
        ("/api/v1/inventory/item-001/restock", '{"quantity": 1000000}', {200}),
        ("/api/v1/inventory/item-001/restock", '{"quantity": 1000000.0}', {200}),
        ("/api/v1/inventory/item-001/restock", '{"quantity": 1000001}', {422}),
        ("/api/v1/inventory/item-001/restock", '{"quantity": 0}', {422}),
        ("/api/v1/products", '{"name": "A", "price": 9999999999.99, "stock_quantity": 1000000}', {201}),
        ("/api/v1/products", '{"name": "A", "price": 1e10, "stock_quantity": 1}', {422}),
        ("/api/v1/products", '{"name": "A", "price": 1e9, "stock_quantity": 1}', {201}),
        ("/api/v1/products", '{"name": "A", "price": 0.01, "stock_quantity": 0}', {201}),
        ("/api/v1/products", '{"name": "A", "price": 0.001, "stock_quantity": 0}', {422}),
        ("/api/v1/products", '{"name": "A", "price": -0.0, "stock_quantity": -0}', {201}),
        ("/api/v1/products", '{"name": "A", "price": 0, "stock_quantity": 1000001}', {422}),
    ],
)
def test_the_bounds_of_stock_and_price(client: FlaskClient, path: str, body: str, statuses: set[int]) -> None:
    response = client.post(path, data=body, content_type="application/json")

    assert_refused(response, statuses, body)


def test_a_body_of_bytes_is_refused_wherever_a_body_is_read(client: FlaskClient, flask_app: Flask) -> None:
    asked = 0
    for path, _, _ in text_fields():
        for data in (
            b"\xff\xfe",
            b"\x00",
            b"{",
            b"",
            b"[[[",
            b'{"a": \xed\xa0\x80}',
        ):
            response = client.post(path, data=data, content_type="application/json")
            assert_refused(response, {400}, (path, data))
            asked += 1
    assert asked


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", path) for path in dict.fromkeys(path for path, _, _ in text_fields())),
        ("POST", "/api/v1/inventory/book-123/restock"),
        ("PATCH", "/api/v1/orders/none"),
    ],
)
def test_a_body_over_the_limit_is_refused(client: FlaskClient, method: str, path: str) -> None:
    response = client.open(
        path, method=method, data=b" " * (MAX_REQUEST_BODY_BYTES + 1), content_type="application/json"
    )

    assert (response.status_code, response.mimetype) == (413, "application/problem+json")


@pytest.mark.parametrize(
    ("form", "start"),
    [
        ("application/x-www-form-urlencoded", b"shipping_address="),
        (
            "multipart/form-data; boundary=edge",
            b'--edge\r\nContent-Disposition: form-data; name="shipping_address"\r\n\r\n',
        ),
    ],
)
def test_a_form_over_the_limit_is_refused(client: FlaskClient, form: str, start: bytes) -> None:
    response = client.post("/place", data=start + b"x" * MAX_REQUEST_BODY_BYTES, content_type=form)

    assert_refused(response, {413}, form)


NAMELESS = [b"form-data", b"attachment", b"", b'form-data; filename="x"']


@pytest.mark.parametrize("disposition", NAMELESS)
@pytest.mark.parametrize("path", ["/place", "/basket", "/language/ja", "/learn/success", "/catalogue/new/book"])
def test_a_part_of_a_form_without_a_name_is_refused(client: FlaskClient, path: str, disposition: bytes) -> None:
    body = b"--edge\r\nContent-Disposition: " + disposition + b"\r\n\r\nx\r\n--edge--\r\n"

    assert_refused(client.post(path, data=body, content_type="multipart/form-data; boundary=edge"), {400}, path)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--edge"),
        ("multipart/form-data; boundary=", b"--edge"),
        ("multipart/form-data; boundary=edge", b"--edge\r\nContent-Type: x\r\n\r\nx\r\n--edge--\r\n"),
        ("multipart/form-data; boundary=edge", b"nothing"),
        ("application/x-www-form-urlencoded", b"q=\xff"),
    ],
)
def test_a_malformed_form_is_not_taken_for_an_empty_one(client: FlaskClient, content_type: str, body: bytes) -> None:
    assert_refused(client.post("/basket", data=body, content_type=content_type), {400}, content_type)


@pytest.mark.parametrize("path", ["/place", "/orders"])
def test_a_body_shorter_than_its_length_is_refused(client: FlaskClient, path: str) -> None:
    """Gunicorn hands on what came before the client hung up."""
    short = {"wsgi.input": BytesIO(b'{"productId": "product-1", "quantity": 1}'), "wsgi.input_terminated": True}
    form = "application/json" if path == "/orders" else "application/x-www-form-urlencoded"

    response = client.post(path, content_type=form, environ_overrides={**short, "CONTENT_LENGTH": "500"})

    assert_refused(response, {400}, path)


class BrokenChunk(BytesIO):
    """A body whose server finds out only while it is read that it cannot be read."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise InvalidChunkSize(b"zz")

    readinto = None  # type: ignore[assignment]  # gunicorn's bodies have none


@pytest.mark.parametrize("form", ["application/json", "application/x-www-form-urlencoded"])
def test_a_body_that_breaks_the_rules_of_http_is_refused(client: FlaskClient, form: str) -> None:
    broken = {"wsgi.input": BrokenChunk(), "wsgi.input_terminated": True}

    response = client.post(
        "/orders" if form.endswith("json") else "/place", content_type=form, environ_overrides=broken
    )

    assert_refused(response, {400}, form)
