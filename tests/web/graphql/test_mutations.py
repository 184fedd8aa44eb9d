"""What mutations take and what they refuse: by the REST API's rules, in GraphQL's names."""

from typing import Any

from flask.testing import FlaskClient

from app.runtime import Runtime
from app.settings import Settings
from durable_sagas.definition import SagaStatus
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


def order(client: FlaskClient, **changes: Any) -> dict[str, Any]:
    """Place an order and return it."""
    return dict(data(client, CREATE_ORDER, input={"items": [ITEM], **changes})["createOrder"])


def refused(client: FlaskClient, **changes: Any) -> dict[str, Any]:
    """Ask for an order that is refused; returns the error."""
    said = error(client, CREATE_ORDER, input={"items": [ITEM], **changes})
    assert get(client, "/api/v1/orders")["orders"] == []
    return said


def test_an_order_may_say_no_more_than_what_is_ordered(client: FlaskClient) -> None:
    nothing_said = {"userId": None, "pattern": None, "paymentMethod": None, "simulate": None, "totalAmount": None}
    for given in ({}, nothing_said):
        placed = order(client, **given)
        assert (placed["userId"], placed["totalAmount"], placed["paymentMethod"]) == ("guest", 3500, "credit_card")
        assert placed["saga"] == {"sagaType": "order", "status": "completed"}


def test_an_order_may_say_all_that_the_rest_api_takes(client: FlaskClient) -> None:
    placed = order(
        client,
        userId="customer-001",
        items=[
            {**ITEM, "unitPrice": 3500.00, "productName": "クラウド設計パターン集"},
            {**ITEM, "productId": "item-001"},
        ],
        pattern="choreography",
        paymentMethod="e_money",
        shippingAddress="東京都千代田区1-1 \U0001f4da",
        totalAmount=4000,
        orderId="my-own-1",
        simulate={"shipping": "decline"},
        idempotencyKey="key-1",
    )

    assert placed == {
        "id": "my-own-1",
        "userId": "customer-001",
        "status": "cancelled",
        "totalAmount": 4000,
        "paymentMethod": "e_money",
        "shippingAddress": "東京都千代田区1-1 \U0001f4da",
        "items": [{"productId": "book-123"}, {"productId": "item-001"}],
        "saga": {"sagaType": "order-choreography", "status": SagaStatus.COMPENSATED},
    }


def test_the_same_key_gets_the_same_order(client: FlaskClient) -> None:
    first, again = order(client, idempotencyKey="k"), order(client, idempotencyKey="k")

    assert first["id"] == again["id"]
    assert stock(client, "book-123")["available_stock"] == 4
    other = error(client, CREATE_ORDER, input={"items": [{**ITEM, "quantity": 2}], "idempotencyKey": "k"})
    assert (other["extensions"]["status"], other["extensions"]["field"]) == (422, "idempotencyKey")


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


def test_a_price_may_be_written_in_any_way(client: FlaskClient) -> None:
    item = '{ productId: "book-789", quantity: 1, unitPrice: %s }'
    for literal in ("2800", "2800.0", "2800.00", "28e2", "2.8e3"):
        data(client, f"mutation {{ createOrder(input: {{ items: [{item % literal}] }}) {{ id }} }}")


def test_amounts_are_exact(client: FlaskClient) -> None:
    document = """mutation {
      createProduct(input: { id: "cheap", name: "x", price: 1234567890.07, stockQuantity: 1 }) { price }
    }"""

    assert data(client, document)["createProduct"]["price"] == 1234567890.07
    sent = {"id": "tenth", "name": "x", "price": 0.1, "stockQuantity": 1}
    assert data(client, CREATE_PRODUCT, input=sent)["createProduct"]["price"] == 0.1
    assert get(client, "/api/v1/inventory/tenth")["price"] == 0.1


WRONG: dict[str, list[Any]] = {
    "items": [[], [ITEM] * 101],
    "items.0.quantity": [0, 1001],
    "items.0.productId": ["", "none", "a\0b"],
    "items.0.unitPrice": [0.001, -1, 10**12],
    "userId": ["nobody", "x" * 65],
    "sagaType": ["none"],
    "shippingAddress": ["", "\ud800"],
    "totalAmount": [0.005],
    "orderId": ["a b", ".."],
    "simulate.payments": ["explode"],
    "simulate.inventory": ["timeout"],
    "idempotencyKey": ["\n", "x" * 201],
}
MISTYPED: dict[str, list[Any]] = {
    "unknown": [1],
    "items": [None],
    "items.0": [{"quantity": 1}],
    "items.0.unknown": [1],
    "items.0.quantity": ["2", True, 1.5, 10**10],
    "items.0.unitPrice": ["3500", True, {}],
    "userId": [["a"]],
    "pattern": ["magic"],
    "paymentMethod": ["cash"],
    "simulate": ["decline"],
}


def test_a_wrong_field_is_named_as_it_was_written(client: FlaskClient) -> None:
    good = {"items": [ITEM], "simulate": {}}
    for field, values in WRONG.items():
        for value in values:
            said = refused(client, **changed(good, field, value))["extensions"]
            assert (said["type"], said["status"], said["field"]) == ("/problems/invalid", 422, field), value
    assert refused(client, sagaType="order", pattern="choreography")["extensions"]["field"] == "sagaType"
    for text in ("a\0b", "\udfff", "x" * 6000):
        for field in ("name", "description"):
            said = error(client, CREATE_CATEGORY, input={"name": "x", field: text})["extensions"]
            assert (said["status"], said["field"]) == (422, field)


def test_a_wrong_type_is_refused_before_anything_is_done(client: FlaskClient) -> None:
    for field, values in MISTYPED.items():
        for value in values:
            said = refused(client, **changed({"items": [ITEM]}, field, value))["extensions"]
            assert (said["type"], said["status"]) == ("/problems/bad-request", 400), (field, value)


def test_a_literal_that_is_no_amount_is_refused(client: FlaskClient) -> None:
    for literal in ("true", '"3500"', "null", "[]", "{}", "gold", "1e99999999999999999999999"):
        document = f'mutation {{ createProduct(input: {{ name: "x", price: {literal}, stockQuantity: 1 }}) {{ id }} }}'
        said = error(client, document)["extensions"]
        assert said["status"] in {400, 422}
        assert said["type"] in {kind.reference for kind in ALL.values()}


def test_faults_are_refused_where_they_are_switched_off(strict_client: FlaskClient) -> None:
    said = refused(strict_client, simulate={"payments": "decline"})

    assert (said["extensions"]["type"], said["extensions"]["field"]) == ("/problems/forbidden", "simulate")


def test_the_catalogue_is_changed_only_by_operators(here: Runtime, settings: Settings) -> None:
    here.close()
    client = create_app(settings.but(operator_token="the operators' own long token")).test_client()
    product = {"name": "x", "price": 1, "stockQuantity": 1}

    for document, given in ((CREATE_CATEGORY, {"name": "x"}), (CREATE_PRODUCT, product)):
        said = error(client, document, input=given)["extensions"]
        assert (said["type"], said["status"]) == ("/problems/unauthorized", 401)
        answer = client.post(
            "/graphql",
            json={"query": document, "variables": {"input": given}},
            headers={"Authorization": "Bearer the operators' own long token"},
        )
        assert "errors" not in answer.get_json()
    assert order(client)["status"] == "completed"  # ordering stays open


def test_a_product_of_no_category_and_a_taken_id_are_refused(client: FlaskClient) -> None:
    product = {"name": "x", "price": 1, "stockQuantity": 1}

    no_category = error(client, CREATE_PRODUCT, input={**product, "categoryId": "none"})["extensions"]
    taken = error(client, CREATE_PRODUCT, input={**product, "id": "book-123"})["extensions"]

    assert (no_category["status"], no_category["field"]) == (422, "categoryId")
    assert (taken["status"], taken["field"]) == (409, "id")


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
