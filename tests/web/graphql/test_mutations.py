"""What mutations take and what they refuse: by the REST API's rules, in GraphQL's names."""

from typing import Any

from flask.testing import FlaskClient

from app.runtime import Runtime
from app.settings import Settings
from tests.testkit.bad_input import changed
from tests.testkit.web import ask, data, error, get, stock
from web import create_app
from web.problem_types import ALL

CREATE_ORDER = """
mutation ($input: CreateOrderInput!) {
  createOrder(input: $input) {
    id userId status totalAmount paymentMethod shippingAddress items { productId } saga { sagaType status }
  }
}
"""
CREATE_PRODUCT = """
mutation ($input: CreateProductInput!) { createProduct(input: $input) { id name description price categoryId } }
"""
CREATE_CATEGORY = "mutation ($input: CreateCategoryInput!) { createCategory(input: $input) { id name description } }"

ITEM = {"productId": "book-123", "quantity": 1}
PRODUCT = {"name": "x", "price": 1, "stockQuantity": 1}


def order(client: FlaskClient, **changes: Any) -> dict[str, Any]:
    """Place an order and return it."""
    return dict(data(client, CREATE_ORDER, input={"items": [ITEM], **changes})["createOrder"])


def refused(client: FlaskClient, **changes: Any) -> dict[str, Any]:
    """Ask for an order that is refused; returns the error."""
    said = error(client, CREATE_ORDER, input={"items": [ITEM], **changes})
    assert get(client, "/api/v1/orders")["orders"] == []
    return said


def test_an_order_may_say_no_more_than_what_is_ordered(client: FlaskClient) -> None:
    unsaid = dict.fromkeys(("userId", "pattern", "paymentMethod", "simulate", "totalAmount"))
    for given in ({}, unsaid):
        placed = order(client, **given)
        assert (placed["userId"], placed["totalAmount"], placed["paymentMethod"]) == ("guest", 3500, "credit_card")
        assert placed["saga"] == {"sagaType": "order", "status": "completed"}


def test_an_order_may_say_all_that_the_rest_api_takes_and_a_key_knows_it_again(client: FlaskClient) -> None:
    kept = {
        "userId": "customer-001",
        "paymentMethod": "e_money",
        "shippingAddress": "東京 \U0001f4da",
        "totalAmount": 4000,
    }
    items = [{**ITEM, "unitPrice": 3500.00, "productName": "クラウド設計パターン集"}, {**ITEM, "productId": "item-001"}]
    more = {"pattern": "choreography", "simulate": {"shipping": "decline"}, "idempotencyKey": "key-1"}

    first, again = (order(client, items=items, orderId="my-own-1", **kept, **more) for _ in range(2))

    assert first == again
    assert first == {
        **kept,
        "id": "my-own-1",
        "status": "cancelled",
        "items": [{"productId": "book-123"}, {"productId": "item-001"}],
        "saga": {"sagaType": "order-choreography", "status": "compensated"},
    }
    other = error(client, CREATE_ORDER, input={"items": [{**ITEM, "quantity": 2}], "idempotencyKey": "key-1"})
    assert (other["extensions"]["status"], other["extensions"]["field"]) == (422, "idempotencyKey")
    assert stock(client, "book-123")["available_stock"] == 5


def test_another_price_is_refused_with_both_figures(client: FlaskClient) -> None:
    said = refused(client, items=[{**ITEM, "unitPrice": 3000}])

    assert said["message"] == "the price of book-123 is 3500, not 3000"
    assert said["path"] == ["createOrder"]
    assert said["extensions"] == {
        "type": "/problems/price-differs",
        "title": "The price differs",
        "status": 409,
        "field": "items.0.unitPrice",
        "errors": [{"field": "items.0.unitPrice", "reason": said["message"]}],
        "facts": {"requested": 3000, "actual": 3500},
    }


def test_amounts_are_exact_however_they_are_written(client: FlaskClient) -> None:
    create = 'mutation {{ createProduct(input: {{ name: "x", price: {}, stockQuantity: 1 }}) {{ price }} }}'.format
    for literal, price in (("2.8e3", 2800), ("2800.00", 2800), ("1234567890.07", 1234567890.07)):
        assert data(client, create(literal))["createProduct"]["price"] == price
    sent = {**PRODUCT, "id": "tenth", "price": 0.1}
    assert data(client, CREATE_PRODUCT, input=sent)["createProduct"]["price"] == 0.1
    assert get(client, "/api/v1/inventory/tenth")["price"] == 0.1
    for literal in ("true", '"3500"', "null", "[]", "{}", "gold", "1e99999999999999999999999"):
        said = error(client, create(literal))["extensions"]
        assert said["status"] in {400, 422}
        assert said["type"] in {kind.reference for kind in ALL.values()}


WRONG: dict[str, list[Any]] = {
    "items": [[], [ITEM] * 101],
    "items.0.quantity": [0, 1001],
    "items.0.productId": ["", "none", "a\0b"],
    "items.0.unitPrice": [0.001, -1, 10**12],
    "userId": ["nobody"],
    "sagaType": ["none"],
    "shippingAddress": ["\ud800"],
    "totalAmount": [0.005],
    "orderId": ["a b"],
    "simulate.payments": ["explode"],
    "idempotencyKey": ["\n"],
}
MISTYPED: dict[str, list[Any]] = {
    "items": [None, [{"quantity": 1}]],
    "items.0.unknown": [1],
    "items.0.quantity": ["2", True, 1.5, 10**10],
    "items.0.unitPrice": ["3500", True, {}],
    "pattern": ["magic"],
}


def test_a_wrong_field_is_named_as_it_was_written_and_a_wrong_type_refused_before_anything_is_done(
    client: FlaskClient,
) -> None:
    good = {"items": [ITEM], "simulate": {}}
    for field, values in WRONG.items():
        for value in values:
            said = refused(client, **changed(good, field, value))["extensions"]
            assert (said["type"], said["status"], said["field"]) == ("/problems/invalid", 422, field), value
    assert refused(client, sagaType="order", pattern="choreography")["extensions"]["field"] == "sagaType"
    for field, values in MISTYPED.items():
        for value in values:
            said = refused(client, **changed(good, field, value))["extensions"]
            assert (said["type"], said["status"]) == ("/problems/bad-request", 400), (field, value)


def test_a_category_or_product_that_cannot_be_is_refused_by_its_field(client: FlaskClient) -> None:
    for document, given, status, field in (
        *((CREATE_CATEGORY, {"name": "x", "description": text}, 422, "description") for text in ("a\0b", "\udfff")),
        *((CREATE_CATEGORY, {"name": text}, 422, "name") for text in ("a\0b", "\udfff", "x" * 6000)),
        (CREATE_PRODUCT, {**PRODUCT, "categoryId": "none"}, 422, "categoryId"),
        (CREATE_PRODUCT, {**PRODUCT, "id": "book-123"}, 409, "id"),
    ):
        said = error(client, document, input=given)["extensions"]
        assert (said["status"], said["field"]) == (status, field)


def test_the_catalogue_is_changed_only_by_operators(here: Runtime, settings: Settings) -> None:
    here.close()
    client = create_app(settings.but(operator_token="the operators' own long token")).test_client()
    authorized = {"Authorization": "Bearer the operators' own long token"}

    for document, given in ((CREATE_CATEGORY, {"name": "x"}), (CREATE_PRODUCT, PRODUCT)):
        said = error(client, document, input=given)["extensions"]
        assert (said["type"], said["status"]) == ("/problems/unauthorized", 401)
        asked = {"query": document, "variables": {"input": given}}
        assert "errors" not in client.post("/graphql", json=asked, headers=authorized).get_json()
    assert order(client)["status"] == "completed"  # ordering stays open


def test_two_mutations_are_done_one_after_the_other_and_fail_alone(client: FlaskClient) -> None:
    answer = ask(
        client,
        """mutation {
          good: createCategory(input: { name: "good" }) { name }
          bad: createCategory(input: { name: "" }) { name }
        }""",
    )

    # a mutation's answer is not null, so GraphQL drops the good one's as well; it was done all the same
    assert answer["data"] is None
    assert [one["path"] for one in answer["errors"]] == [["bad"]]
    assert [one["name"] for one in get(client, "/api/v1/categories")["categories"]].count("good") == 1
