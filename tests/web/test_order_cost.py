"""What placing an order costs, in what can be counted: it must not creep up."""

from typing import Any, NoReturn

import pytest
from flask.testing import FlaskClient
from pydantic.json_schema import GenerateJsonSchema

from app.runtime import Runtime
from bench.statements import Counted
from tests.testkit.messages import Post

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
def test_no_schema_is_made_for_a_request_that_came_before(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask() -> None:
        place(client)
        assert client.get("/api/v1/orders?limit=1").status_code == 200

    ask()
    monkeypatch.setattr(GenerateJsonSchema, "generate", fail)
    ask()
