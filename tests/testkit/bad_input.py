"""Strange values, and where a request may carry them."""

import copy
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from flask import Flask
from werkzeug.test import TestResponse

from tests.testkit.web import SEED_ORDER

ZERO = "01890000-0000-7000-8000-000000000000"
STORABLE = {
    "emoji": "📚👩‍👩‍👧‍👦",
    "right to left": "\u202eספר\u202c كتاب",
    "astral": "\U00020bb7野家",
    "line break": "a\nb\r\nc\td",
    "control": "\x01\x1b[31m\x7f",
    "separators": "a\u2028\u2029\ufeff\u200b",
    "not a character": "a\ufffe\uffff\U0010ffff",
    "quotes": "'\"; DROP TABLE orders; --",
    "markup": "<script>alert(1)</script>{{ 7 * 7 }}",
    "format": "%s %d {} %(x)s %",
    "path": "../../etc/passwd",
}
UNSTORABLE = {"NUL": "a\0b", "high surrogate": "a\ud800", "low surrogate": "\udc00a", "long": "x" * 500_000}
IDS = {
    **{name: quote(STORABLE[name], safe="") for name in ("emoji", "control", "quotes", "path")},
    "NUL": "a%00b",
    "slash": "a%2Fb",
    "no UTF-8": "%ff%fe",
    "surrogate": "%ed%a0%80",
    "bad escape": "%zz%",
    "long": "x" * 8000,
    "number": "9" * 40,
    "negative": "-1",
    "almost a UUID": ZERO + "0",
    "UUID in braces": f"%7B{ZERO}%7D",
    "UUID in capitals": ZERO.upper(),
    "foreign digits": ZERO.replace("0", quote("٠")),
}
NUMBERS = (
    "-1 -0.01 1.5 1e400 -1e400 1E-400 1e999999999 1e-999999999 1e99999999999999999999 NaN Infinity -Infinity true null "
    '"1" "" [] {} 2147483648 9223372036854775807 9223372036854775808 -9223372036854775809 1' + "0" * 100
).split()

BODIES: dict[str, dict[str, Any]] = {
    "/api/v1/orders": {**SEED_ORDER, "simulate": {}},
    "/orders": {"bookId": "book-123", "quantity": 1},
    "/saga/start": {"productId": "book-123", "quantity": 1},
    "/api/v1/products": {"name": "A book", "price": 1, "stock_quantity": 1},
    "/api/v1/categories": {"name": "Books"},
    "/api/v1/inventory/book-123/restock": {"quantity": 1},
}
"""A good body for every path that takes one."""
TEXT_FIELDS = {
    "/api/v1/orders": "shipping_address customer_id items.0.product_id order_id pattern saga_type payment_method "
    "simulate.payments",
    "/orders": "shippingAddress customerId orderId paymentMethod bookId",
    "/saga/start": "shippingAddress customerId orderId paymentMethod productId",
    "/api/v1/products": "name description category_id book_id",
    "/api/v1/categories": "name description",
}
NUMBER_FIELDS = {
    "/api/v1/orders": "items.0.quantity items.0.price amount",
    "/orders": "quantity price",
    "/saga/start": "amount",
    "/api/v1/products": "price stock_quantity",
    "/api/v1/inventory/book-123/restock": "quantity",
}


def changed(body: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Return a body with one value changed, whose path is written as in errors: ``items.0.quantity``."""
    here: Any = copy.deepcopy(body)
    whole = here
    *way, last = path.split(".")
    for name in way:
        here = here[int(name)] if name.isdigit() else here[name]
    here[int(last) if isinstance(here, list) else last] = value
    return dict(whole)


def fields(table: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield path and field of a table."""
    for path, names in table.items():
        for name in names.split():
            yield path, name


def operations(app: Flask, *methods: str) -> Iterator[tuple[str, str]]:
    """Yield method and path of every route, pages included."""
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) & set(methods)):
            if not rule.endpoint.startswith(("openapi.", "swagger.", "static")):
                yield method, rule.rule


def cursor(text: str) -> str:
    """Return a cursor that holds a text."""
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def assert_refused(response: TestResponse, statuses: set[int], what: object) -> None:
    assert response.status_code in statuses, (what, response.status_code, response.text[:300])
