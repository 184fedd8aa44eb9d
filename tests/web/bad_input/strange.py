"""Strange values, and where an API may meet them."""

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from flask import Flask
from werkzeug.test import TestResponse

from tests.web.conftest import SEED_ORDER


def cursor(text: str) -> str:
    """Return a cursor that holds a text."""
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


ZERO = "01890000-0000-7000-8000-000000000000"
STORABLE = {
    "emoji": "📚👩‍👩‍👧‍👦",
    "right to left": "\u202eספר\u202c كتاب",
    "combining": "e\u0301\u0323" * 20,
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
UNSTORABLE = {"NUL": "a\0b", "high surrogate": "a\ud800", "low surrogate": "\udc00a", "swapped": "\udc00\ud800"}
PATHS = {
    **{name: quote(text, safe="") for name, text in STORABLE.items()},
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
    "UUID without hyphens": ZERO.replace("-", ""),
    "UUID in capitals": ZERO.upper(),
    "foreign digits": ZERO.replace("0", quote("٠")),
}
QUERY = {
    "long": "x" * 60_000,
    "wild": "%" * 26_000,
    "many digits": "9" * 5000,
    "deep cursor": cursor("[" * 1500),
    "deep object as a cursor": cursor('{"a":' * 1500),
    "number as a cursor": cursor("[" + "9" * 5000 + "]"),
    "long cursor": cursor('["' + "x" * 60_000 + '"]'),
    "two keys in a cursor": cursor('{"a": 1, "a": 2}'),
}
"""What a parameter of a query, or a field of a form, may hold: long, deep or large."""
NAMES = (
    *(
        "copies.book-123",
        "customer_id",
        "payment_method",
        "saga_type",
        "shipping_address",
        "break.payments",
        "category",
    ),
    *("way", "key", "back", "name", "description", "price", "category_id", "stock_quantity", "book_id", "quantity"),
)
"""What forms have for fields."""
NUMBERS = (
    "-1 -0.01 1.5 1e400 -1e400 1E-400 1e999999999 1e-999999999 1e99999999999999999999 NaN Infinity -Infinity true null "
    '"1" "" [] {} 2147483648 9223372036854775807 9223372036854775808 -9223372036854775809 1' + "0" * 100
).split()


def operations(app: Flask, *methods: str) -> Iterator[tuple[str, str]]:
    """Return method and path of every route, pages included."""
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) & set(methods)):
            if not rule.endpoint.startswith(("openapi.", "swagger.", "static")):
                yield method, rule.rule


def assert_refused(response: TestResponse, statuses: set[int], what: object) -> None:
    assert response.status_code in statuses, (what, response.status_code, response.text[:300])


def text_fields() -> list[tuple[str, str, Callable[[str], dict[str, Any]]]]:
    """Return every text that a request can carry: its path, its name, and a body with it."""
    book = {"bookId": "book-123", "quantity": 1}
    product = {"name": "A book", "price": 1, "stock_quantity": 1}
    return [
        ("/api/v1/orders", "shipping_address", lambda text: {**SEED_ORDER, "shipping_address": text}),
        ("/api/v1/orders", "customer_id", lambda text: {**SEED_ORDER, "customer_id": text}),
        ("/api/v1/orders", "items.0.product_id", lambda text: {"items": [{"product_id": text, "quantity": 1}]}),
        ("/api/v1/orders", "items.0.book_id", lambda text: {"items": [{"book_id": text, "quantity": 1}]}),
        ("/api/v1/orders", "order_id", lambda text: {**SEED_ORDER, "order_id": text}),
        ("/api/v1/orders", "pattern", lambda text: {**SEED_ORDER, "pattern": text}),
        ("/api/v1/orders", "saga_type", lambda text: {**SEED_ORDER, "saga_type": text}),
        ("/api/v1/orders", "payment_method", lambda text: {**SEED_ORDER, "payment_method": text}),
        ("/api/v1/orders", "simulate.payments", lambda text: {**SEED_ORDER, "simulate": {"payments": text}}),
        *(
            (path, field, lambda text, field=field: {**book, field: text})
            for path in ("/orders", "/saga/start")
            for field in ("shippingAddress", "customerId", "orderId", "paymentMethod")
        ),
        ("/orders", "bookId", lambda text: {"bookId": text, "quantity": 1}),
        ("/saga/start", "productId", lambda text: {"productId": text, "quantity": 1}),
        ("/api/v1/products", "name", lambda text: {**product, "name": text}),
        ("/api/v1/products", "description", lambda text: {**product, "description": text}),
        ("/api/v1/products", "category_id", lambda text: {**product, "category_id": text}),
        ("/api/v1/products", "book_id", lambda text: {**product, "book_id": text}),
        ("/api/v1/categories", "name", lambda text: {"name": text}),
        ("/api/v1/categories", "description", lambda text: {"name": "A", "description": text}),
    ]
