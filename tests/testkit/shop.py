"""A running CloudMart as a client sees it, and its database as an auditor does."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

from flask.testing import FlaskClient
from sqlalchemy import text

from app import runtime
from app.runtime import Runtime
from workflows.operations.audit import audit

UNKNOWN_ID = "019b7a3c-0000-7000-8000-000000000000"
"""An id that nothing has."""

ENDED = {"completed", "compensated", "stuck"}
PATIENCE_SECONDS = 120
OPERATOR_TOKEN = "the token of the tests' operators"
AUTHORIZED = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: Any
    headers: dict[str, str]


class Transport(Protocol):
    def __call__(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer: ...


class Shop:
    """A running CloudMart, as a client sees it, and its database, as an auditor does."""

    def __init__(self, transport: Transport, here: Runtime) -> None:
        self._transport = transport
        self.here = here

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self._transport("POST", path, body, headers)

    def get(self, path: str) -> Answer:
        return self._transport("GET", path, None, {})

    def add_book(self, stock: int, price: float = 1200) -> str:
        """Put a new book on the shelf, so that a test counts nobody else's stock."""
        body = {"name": f"Book of {uuid4().hex[:8]}", "price": price, "stock_quantity": stock}
        answer = self.post("/api/v1/products", body)
        assert answer.status == 201, answer
        return str(answer.body["book_id"])

    def order(self, book_id: str, quantity: int = 1, **options: Any) -> dict[str, Any]:
        """Place an order; returns the answer's body."""
        body = {"customer_id": "customer-001", "items": [{"product_id": book_id, "quantity": quantity}], **options}
        answer = self.post("/api/v1/orders", body)
        assert answer.status == 202, answer
        assert answer.body["status"] == "pending"
        return dict(answer.body)

    def settle(self, saga_id: str) -> dict[str, Any]:
        """Wait until a saga has ended; returns it."""
        return dict(self.wait_for(lambda: self.saga(saga_id), lambda saga: saga["status"] in ENDED))

    def saga(self, saga_id: str) -> dict[str, Any]:
        answer = self.get(f"/api/v1/sagas/{saga_id}")
        assert answer.status == 200, answer
        return dict(answer.body)

    def wait_for(self, look: Callable[[], Any], good: Callable[[Any], bool]) -> Any:
        """Look until what is seen is good; fails when that takes too long."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not good(seen := look()):
            assert time.monotonic() < give_up, f"still {seen}"
            time.sleep(0.02)
        return seen

    def events(self, order_id: str) -> list[str]:
        answer = self.get(f"/api/v1/orders/{order_id}/events")
        return [event["event_type"] for event in answer.body["events"]]

    def stock(self, book_id: str) -> tuple[int, int]:
        """Return what is available and what is reserved of a book."""
        book = self.get(f"/api/v1/inventory/{book_id}").body
        return book["available_stock"], book["reserved_stock"]

    def rows(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        with self.here.database.reading() as session:
            return [tuple(row) for row in session.execute(text(statement), parameters)]

    def violations(self) -> list[str]:
        """Return what the audit finds wrong in the database."""
        before = runtime.current()
        runtime.use(self.here)
        try:
            return [str(violation) for violation in audit()]
        finally:
            runtime.use(before)


def flask_transport(client: FlaskClient) -> Transport:
    def call(method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        answer = client.open(path, method=method, json=body, headers={**AUTHORIZED, **headers})
        return Answer(answer.status_code, answer.get_json(silent=True), dict(answer.headers))

    return call


def http_transport(base: str) -> Transport:
    def call(method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        content = {"Content-Type": "application/json"} if data else {}
        request = urllib.request.Request(
            base + path, data=data, headers={**AUTHORIZED, **content, **headers}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, json.load(answer), dict(answer.headers))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, json.load(error), dict(error.headers))

    return call
