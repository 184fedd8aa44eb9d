"""What placing an order costs, in what can be counted: it must not creep up."""

from typing import Any, NoReturn

import pytest
from flask.testing import FlaskClient
from pydantic.json_schema import GenerateJsonSchema

from app.runtime import Runtime
from bench.statements import Counted
from tests.post import Post

ORDER = {
    "customer_id": "customer-123",
    "items": [{"product_id": "product-1", "quantity": 2, "price": 100.0}, {"product_id": "item-001", "quantity": 1}],
}


def place(client: FlaskClient, **headers: Any) -> None:
    assert client.post("/api/v1/orders", json=ORDER, headers=headers).status_code == 202


@pytest.mark.parametrize(
    ("headers", "looks", "writes"),
    [
        # the books; the order, its lines and its saga
        ({}, 1, 3),
        # whether the key was used before; that it is used now
        ({"Idempotency-Key": "once"}, 2, 4),
    ],
)
def test_an_order_is_one_transaction_of_few_statements(
    client: FlaskClient, here: Runtime, post: Post, headers: dict[str, str], looks: int, writes: int
) -> None:
    place(client)
    counted = Counted(here.database.engine)

    place(client, **headers)

    assert counted.verbs == {"BEGIN": 1, "SELECT": looks, "INSERT": writes, "commits that wrote": 1}


@pytest.mark.usefixtures("post")
def test_a_repeated_order_is_one_transaction(client: FlaskClient, here: Runtime) -> None:
    place(client, **{"Idempotency-Key": "once"})
    counted = Counted(here.database.engine)

    place(client, **{"Idempotency-Key": "once"})

    assert counted.verbs == {"BEGIN": 1, "SELECT": 2, "commits that wrote": 1}


@pytest.mark.usefixtures("post")
def test_no_schema_is_made_for_a_request_that_came_before(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a schema was made")

    def ask() -> None:
        place(client)
        assert client.get("/api/v1/orders?limit=1").status_code == 200

    ask()
    monkeypatch.setattr(GenerateJsonSchema, "generate", fail)
    ask()
