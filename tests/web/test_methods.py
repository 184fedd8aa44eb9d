"""Which HTTP methods change something: those that are declared for it, and GET and HEAD never."""

from collections import defaultdict
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.database import all_tables
from app.runtime import Runtime
from tests.testkit.client import PASSWORD, Browser
from tests.testkit.web import SEED_ORDER, STREAMS, STUCK, PlaceUnsent, lose_messages, post, routes

METHODS = {"GET", "HEAD", "OPTIONS", "TRACE", "POST", "PUT", "PATCH", "DELETE"}
ACTING = {"POST", "PUT", "PATCH", "DELETE"}
FORM = {"name": "Ann", "password": PASSWORD, "note": "by hand", "step": "process_payment", "quantity": "1", "key": "k"}
FOREIGN = {"Origin": "http://localhost:9999", "Sec-Fetch-Site": "same-site"}
MUTATION = {"query": 'mutation { createCategory(input: {name: "a", description: "b"}) { id } }'}


def contents(here: Runtime) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table."""
    with here.database.reading() as session:
        return {table.name: [tuple(row) for row in session.execute(table.select())] for table in all_tables().values()}


def test_no_method_but_the_declared_ones_changes_anything(
    flask_app: Flask, here: Runtime, operator: Browser, place_unsent: PlaceUnsent, monkeypatch: pytest.MonkeyPatch
) -> None:
    # one saga that can be cancelled, and one that is stuck
    placed = [place_unsent(SEED_ORDER), post(operator, "/api/v1/orders", STUCK)]
    lose_messages(monkeypatch)
    declared = defaultdict[str, set[str]](set)
    for rule in flask_app.url_map.iter_rules():
        declared[rule.rule] |= (rule.methods or set()) & ACTING
    paths = {
        path: rule
        for order in placed
        for rule, path in routes(flask_app, saga_id=order["saga_id"], order_id=order["order_id"])
    }
    before = contents(here)

    for path, rule in paths.items():
        for method in sorted(METHODS - declared[rule.rule]):
            if method == "GET" and rule.endpoint in STREAMS:
                continue
            query = MUTATION if rule.endpoint == "graphql.answer" else {}
            sent: dict[str, Any] = {"data": FORM, "headers": FOREIGN, "query_string": query}
            with FlaskClient.open(operator, path, method=method, **sent) as answer:
                assert not answer.headers.getlist("Set-Cookie") or method == "GET", (method, path)
                assert method != "HEAD" or answer.data == b""
        assert contents(here) == before, path
    assert len(paths) > 60
