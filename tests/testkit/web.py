"""What the tests of the web share: requests that must have a status, orders whose messages are lost, texts of pages."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import unescape
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from app import runtime
from durable_sagas.messaging.publisher import Publisher
from durable_sagas.models import SagaInstance

PlaceUnsent = Callable[[object], dict[str, Any]]

SEED_ORDER = {"customer_id": "customer-123", "items": [{"product_id": "product-1", "quantity": 2, "price": 100.0}]}
"""The order that seed 003 writes."""

STUCK = {**SEED_ORDER, "simulate": {"payments": "undo-fail:7", "shipping": "decline"}}
"""One whose refund fails as often as it is tried in a round: it is stuck, and a resume ends it."""

BROWSES = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
"""What a browser accepts."""


def post(client: FlaskClient, path: str, body: object, status: int = 202) -> dict[str, Any]:
    """Send a JSON body and return the JSON answer, which must have this status."""
    response = client.post(path, json=body)
    assert response.status_code == status, response.text
    return dict(response.get_json())


def get(client: FlaskClient, path: str, status: int = 200) -> dict[str, Any]:
    """Return the JSON answer, which must have this status."""
    response = client.get(path)
    assert response.status_code == status, response.text
    return dict(response.get_json())


STREAMS = {"pages.live.saga"}
"""Endpoints whose answers do not end by themselves."""

ANYTHING = {"book_id": "book-123", "name": "ja", "step": "process_payment", "slug": "conflict", "filename": "base.css"}


def routes(app: Flask, **known: str) -> Iterator[tuple[Rule, str]]:
    """Yield every rule of an app with a path of it; ``known`` are values for its variable parts."""
    with app.test_request_context():
        for rule in app.url_map.iter_rules():
            values: dict[str, Any] = {name: {**ANYTHING, **known}.get(name, "x") for name in rule.arguments}
            yield rule, app.url_for(rule.endpoint, **values)


def fields_of(problem: dict[str, Any]) -> list[str]:
    """Return the fields that a problem complains of."""
    return [error["field"] for error in problem["errors"]]


def place(client: FlaskClient, order: object) -> str:
    """Place an order; returns its saga's id."""
    return str(post(client, "/api/v1/orders", order)["saga_id"])


def status(client: FlaskClient, saga_id: str) -> str:
    return str(get(client, f"/api/v1/sagas/{saga_id}")["status"])


def acts(client: FlaskClient, saga_id: str) -> list[tuple[str, str, str | None]]:
    """Return what operators did to a saga: what, who, and their notes."""
    told = get(client, f"/api/v1/sagas/{saga_id}/history")["acts"]
    return [(act["act"], act["by"], act["note"]) for act in told]


def stock(client: FlaskClient, book_id: str) -> dict[str, Any]:
    """Return a book."""
    return get(client, f"/api/v1/inventory/{book_id}")


def lose_messages(patch: pytest.MonkeyPatch) -> None:
    """Lose what is sent, until the patch is undone."""
    patch.setattr(Publisher, "publish", lambda *_, **__: True)  # the broker took it, and lost it


def text_of(page: TestResponse | str) -> str:
    """Return what a reader sees: no tags, and one blank between words."""
    html = page if isinstance(page, str) else page.text
    shown = re.sub(r"<title.*?</title>|<desc.*?</desc>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", shown).split())


def value_after(page: TestResponse, start: str) -> str:
    """Return the value in quotes that follows something on a page, such as ``rel="next" href=``."""
    found = re.search(rf'{re.escape(start)}"([^"]*)"', page.text)
    assert found, start
    return unescape(found[1])


def hidden(page: TestResponse, name: str) -> str:
    """Return what a hidden field of a page holds."""
    return value_after(page, f'name="{name}" value=')


def change_saga(saga_id: str, **columns: object) -> None:
    """Change a saga's row."""
    with runtime.current().database.transaction() as session:
        saga = session.get_one(SagaInstance, saga_id)
        for name, value in columns.items():
            setattr(saga, name, value)


@contextmanager
def reads() -> Iterator[list[str]]:
    """Collect the statements that read from the database."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.lstrip().startswith("SELECT"):
            seen.append(statement)

    engine = runtime.current().database.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


def ask(client: FlaskClient, document: str, **variables: Any) -> dict[str, Any]:
    """Send a GraphQL document by POST and return the whole answer."""
    response = client.post("/graphql", json={"query": document, "variables": variables})
    assert (response.status_code, response.mimetype) == (200, "application/json"), response.text
    return dict(response.get_json())


def data(client: FlaskClient, document: str, **variables: Any) -> dict[str, Any]:
    """Send a GraphQL document and return its data; it must have no errors."""
    answer = ask(client, document, **variables)
    assert "errors" not in answer, answer["errors"]
    return dict(answer["data"])


def error(client: FlaskClient, document: str, **variables: Any) -> dict[str, Any]:
    """Send a GraphQL document and return its one error."""
    (found,) = ask(client, document, **variables)["errors"]
    return dict(found)
