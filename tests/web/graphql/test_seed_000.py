"""Seed 000's documents, word for word but for the ids, and its four test scenarios, by GraphQL alone."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.testkit.web import data
from workflows.operations.audit import audit

CREATE_CATEGORY = """\
# カテゴリ作成
mutation {
  createCategory(input: { name: "電子機器", description: "電子機器カテゴリ" }) {
    id
    name
  }
}
"""

CREATE_PRODUCT = """\
# 商品作成（カテゴリIDを使用）
mutation {
  createProduct(
    input: {
      name: "スマートフォン"
      description: "最新モデル"
      price: 80000
      categoryId: "上で作成したカテゴリID"
      stockQuantity: 5
    }
  ) {
    id
    name
    stockQuantity
  }
}
"""

CREATE_ORDER = """\
mutation CreateOrder {
  createOrder(
    input: {
      userId: "user-123"
      items: [
        {
          productId: "上で作成した商品ID"
          productName: "スマートフォン"
          quantity: 2
          unitPrice: 80000
        }
      ]
    }
  ) {
    id
    status
    totalAmount
    items {
      productName
      quantity
      unitPrice
    }
  }
}
"""

CATEGORY_ID = "上で作成したカテゴリID"
PRODUCT_ID = "上で作成した商品ID"

ORDER = """
query ($id: ID!) {
  order(id: $id) {
    status
    payment { status amount }
    shipment { status }
    saga { id status state stateHistory { state } error steps { name operation status } }
    events { sequence eventType }
  }
}
"""


@pytest.fixture
def product(client: FlaskClient) -> str:
    """The seed's smartphone, on sale."""
    category = data(client, CREATE_CATEGORY)["createCategory"]
    assert category["name"] == "電子機器"
    document = CREATE_PRODUCT.replace(CATEGORY_ID, category["id"])
    product = data(client, document)["createProduct"]
    assert (product["name"], product["stockQuantity"]) == ("スマートフォン", 5)
    return str(product["id"])


def order(client: FlaskClient, product: str, **changes: str) -> dict[str, Any]:
    """Place the seed's order."""
    document = CREATE_ORDER.replace(PRODUCT_ID, product)
    for said, instead in changes.items():
        document = document.replace(said, instead)
    return dict(data(client, document)["createOrder"])


def shown(client: FlaskClient, placed: dict[str, Any]) -> dict[str, Any]:
    """Return what became of an order."""
    return dict(data(client, ORDER, id=placed["id"])["order"])


def stock(client: FlaskClient, product: str) -> tuple[int, int]:
    """Return what is available and what is reserved."""
    found = data(client, f'{{ product(id: "{product}") {{ stockQuantity reservedQuantity }} }}')["product"]
    return found["stockQuantity"], found["reservedQuantity"]


def undone(order: dict[str, Any]) -> list[str]:
    """Return the steps that were undone, in order."""
    return [step["name"] for step in order["saga"]["steps"] if step["operation"] == "compensation"]


def test_the_order_succeeds(client: FlaskClient, product: str) -> None:
    placed = order(client, product)

    assert placed == {
        "id": placed["id"],
        "status": "completed",
        "totalAmount": 160000,
        "items": [{"productName": "スマートフォン", "quantity": 2, "unitPrice": 80000}],
    }
    seen = shown(client, placed)
    assert seen["payment"] == {"status": "completed", "amount": 160000}
    assert seen["shipment"]["status"] == "arranged"
    assert (seen["saga"]["status"], seen["saga"]["state"], seen["saga"]["error"]) == ("completed", "COMPLETED", None)
    assert [event["sequence"] for event in seen["events"]] == list(range(1, len(seen["events"]) + 1))
    assert seen["events"][0]["eventType"] == "OrderCreated"
    assert seen["events"][-1]["eventType"] == "OrderCompleted"
    assert stock(client, product) == (3, 0)
    assert list(audit()) == []


def test_a_payment_of_999999_is_declined_and_the_order_undone(client: FlaskClient) -> None:
    placed = order(client, "book-999999", **{"unitPrice: 80000": "unitPrice: 999999", "quantity: 2": "quantity: 1"})

    seen = shown(client, placed)
    assert placed["totalAmount"] == 999999
    assert (seen["status"], seen["saga"]["status"]) == ("cancelled", "compensated")
    assert undone(seen) == ["process_payment", "reserve_stock", "create_order"]
    assert stock(client, "book-999999") == (10, 0)
    assert list(audit()) == []
