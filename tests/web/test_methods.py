"""Which HTTP methods change something: those that are declared for it, and GET and HEAD never."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from app.database import all_tables
from app.runtime import Runtime
from tests.testkit.client import HTML, PASSWORD, Browser
from tests.testkit.messages import Clock
from tests.testkit.web import SEED_ORDER, STUCK, PlaceUnsent, lose_messages, post

METHODS = {"GET", "HEAD", "OPTIONS", "TRACE", "POST", "PUT", "PATCH", "DELETE"}
ACTING = {"POST", "PUT", "PATCH", "DELETE"}
STREAMS = {"pages.live.saga"}
STUCK_STEP = "process_payment"
FORM = {
    "name": "Ann",
    "password": PASSWORD,
    "note": "paid back by hand",
    "step": STUCK_STEP,
    "quantity": "1",
    "key": "k",
}
FOREIGN = {"Origin": "http://localhost:9999", "Sec-Fetch-Site": "same-site"}
MUTATION = {"query": 'mutation { createCategory(input: {name: "a", description: "b"}) { id } }'}
CHANGES_BY_ITSELF = {"metrics.show"}
"""Endpoints whose answer's length differs from one request to the next."""


@pytest.fixture
def sagas(operator: Browser, place_unsent: PlaceUnsent, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Values for the variable parts of a path: those of a saga that can be cancelled, and of one that is stuck."""
    placed = [place_unsent(SEED_ORDER), post(operator, "/api/v1/orders", STUCK)]
    lose_messages(monkeypatch)
    other = {"book_id": "book-123", "name": "ja", "step": STUCK_STEP, "slug": "conflict", "filename": "base.css"}
    return [{**other, "saga_id": order["saga_id"], "order_id": order["order_id"]} for order in placed]


def paths(app: Flask, known: list[dict[str, str]]) -> Iterator[tuple[Rule, str]]:
    """Yield every rule of the app with its paths."""
    with app.test_request_context():
        for rule in app.url_map.iter_rules():
            values: list[dict[str, Any]] = [{name: some.get(name, "x") for name in rule.arguments} for some in known]
            for one in sorted({app.url_for(rule.endpoint, **some) for some in values}):
                yield rule, one


def contents(here: Runtime) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table."""
    with here.database.reading() as session:
        return {table.name: [tuple(row) for row in session.execute(table.select())] for table in all_tables().values()}


def test_no_method_but_the_declared_ones_changes_anything(
    flask_app: Flask, here: Runtime, operator: Browser, sagas: list[dict[str, str]]
) -> None:
    declared = defaultdict[str, set[str]](set)
    for rule in flask_app.url_map.iter_rules():
        declared[rule.rule] |= (rule.methods or set()) & ACTING
    before = contents(here)
    for rule, path in paths(flask_app, sagas):
        for method in sorted(METHODS - declared[rule.rule]):
            if method == "GET" and rule.endpoint in STREAMS:
                continue
            query = MUTATION if rule.endpoint == "graphql.answer" else {}
            with FlaskClient.open(
                operator, path, method=method, data=FORM, headers=FOREIGN, query_string=query
            ) as answer:
                assert not answer.headers.getlist("Set-Cookie") or method == "GET", (method, path)
        assert contents(here) == before, path


def test_head_answers_as_get_does_and_without_a_body(
    flask_app: Flask, here: Runtime, operator: Browser, sagas: list[dict[str, str]]
) -> None:
    here.now = Clock()  # pages say how long ago something was, to the millisecond
    operator.get("/nothing", headers=HTML)  # the first form of a session sets its cookie
    compared = 0
    for rule, path in paths(flask_app, sagas):
        if "GET" not in (rule.methods or ()) or rule.endpoint in STREAMS:
            continue
        with operator.get(path, headers=HTML) as read, operator.head(path, headers=HTML) as asked:
            heads = [dict(answer.headers) for answer in (read, asked)]
            if rule.endpoint in CHANGES_BY_ITSELF:
                heads = [{**head, "Content-Length": ""} for head in heads]
            assert (asked.status_code, heads[1]) == (read.status_code, heads[0]), path
            assert asked.data == b""
            compared += 1
    assert compared > 30
    operator.post("/operator/logout")
    operator.head("/operator/login", data=FORM)
    assert "Operator: <bdi>Ann</bdi>" not in operator.get("/", headers=HTML).text
