"""What placing an order costs, in what can be counted: it must not creep up."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic.json_schema import GenerateJsonSchema

from app.runtime import Runtime
from bench.statements import Counted
from tests.testkit.messages import Post
from tests.testkit.processes import wait_for
from workflows import orders

ORDER = {
    "customer_id": "customer-123",
    "items": [{"product_id": "product-1", "quantity": 2, "price": 100.0}, {"product_id": "item-001", "quantity": 1}],
}


def fail(*_: object, **__: object) -> NoReturn:
    raise AssertionError("this is not to be done for an order")


def place(client: FlaskClient, **headers: Any) -> None:
    assert client.post("/api/v1/orders", json=ORDER, headers=headers).status_code == 202


def test_an_order_is_one_transaction_of_few_statements(client: FlaskClient, here: Runtime, post: Post) -> None:
    place(client)
    counted = Counted(here.database.engine)
    for headers, looks, writes in (
        ({}, 1, 3),  # the books; the order, its lines and its saga
        ({"Idempotency-Key": "once"}, 2, 4),  # whether the key was used before; that it is used now
        ({"Idempotency-Key": "once"}, 2, 0),  # the same order once more
    ):
        counted.clear()
        place(client, **headers)
        written = {"INSERT": writes, "commits that wrote": 1} if writes else {"commits that only read": 1}
        assert counted.verbs == {"BEGIN": 1, "SELECT": looks, **written}


@pytest.mark.usefixtures("post")
def test_orders_that_come_while_one_is_stored_are_stored_together(flask_app: Flask, here: Runtime) -> None:
    place(flask_app.test_client())
    counted = Counted(here.database.engine)

    with ThreadPoolExecutor(8) as customers, here.database.transaction():  # nobody else can write
        customers.submit(place, flask_app.test_client())
        wait_for(
            "the first to be at it", lambda: orders._group_commit._has_leader and not orders._group_commit._waiting
        )
        placed = [customers.submit(place, flask_app.test_client()) for _ in range(7)]
        wait_for("the others to wait", lambda: len(orders._group_commit._waiting) == len(placed))
        counted.clear()
    for one in placed:
        one.result()

    # what held them up is the one that only read
    written = {"BEGIN": 2, "SELECT": 2, "INSERT": 6, "commits that wrote": 2}
    assert counted.verbs == {**written, "commits that only read": 1}


@pytest.mark.usefixtures("post")
def test_no_schema_is_made_for_a_request_that_came_before(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask() -> None:
        place(client)
        assert client.get("/api/v1/orders?limit=1").status_code == 200

    ask()
    monkeypatch.setattr(GenerateJsonSchema, "generate", fail)
    ask()
