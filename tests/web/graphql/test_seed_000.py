"""Seed 000's documents, word for word but for the ids, by GraphQL alone."""

from typing import Any

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

ORDER = """
query ($id: ID!, $product: ID!) {
  order(id: $id) {
    status
    payment { status amount }
    shipment { status }
    saga { status state error steps { name operation } }
    events { sequence eventType }
  }
  product(id: $product) { stockQuantity reservedQuantity }
}
"""


def order(client: FlaskClient, product: str, **changes: str) -> tuple[dict[str, Any], dict[str, Any], tuple[int, int]]:
    """Place the seed's order; returns the answer, what became of it, and what is available and reserved then."""
    document = CREATE_ORDER.replace("上で作成した商品ID", product)
    for said, instead in changes.items():
        document = document.replace(said, instead)
    placed = data(client, document)["createOrder"]
    seen = data(client, ORDER, id=placed["id"], product=product)
    assert list(audit()) == []
    return placed, seen["order"], tuple(seen["product"].values())


def test_the_order_succeeds_or_is_undone(client: FlaskClient) -> None:
    category = data(client, CREATE_CATEGORY)["createCategory"]
    assert category["name"] == "電子機器"
    product = data(client, CREATE_PRODUCT.replace("上で作成したカテゴリID", category["id"]))["createProduct"]
    assert (product["name"], product["stockQuantity"]) == ("スマートフォン", 5)

    placed, seen, stock = order(client, product["id"])
    _, sold_out, _ = order(client, product["id"], **{"quantity: 2": "quantity: 6"})

    item = {"productName": "スマートフォン", "quantity": 2, "unitPrice": 80000}
    assert placed == {"id": placed["id"], "status": "completed", "totalAmount": 160000, "items": [item]}
    assert seen["payment"] == {"status": "completed", "amount": 160000}
    assert seen["shipment"]["status"] == "arranged"
    assert (seen["saga"]["status"], seen["saga"]["state"], seen["saga"]["error"]) == ("completed", "COMPLETED", None)
    assert [event["sequence"] for event in seen["events"]] == list(range(1, len(seen["events"]) + 1))
    assert (seen["events"][0]["eventType"], seen["events"][-1]["eventType"]) == ("OrderCreated", "OrderCompleted")
    assert stock == (3, 0)
    assert (sold_out["status"], sold_out["saga"]["state"], sold_out["payment"]) == ("cancelled", "FAILED", None)
    assert "6 wanted, 3 available" in sold_out["saga"]["error"]


def test_a_payment_of_999999_is_declined_and_the_order_undone(client: FlaskClient) -> None:
    one = {"unitPrice: 80000": "unitPrice: 999999", "quantity: 2": "quantity: 1"}

    placed, seen, stock = order(client, "book-999999", **one)

    assert placed["totalAmount"] == 999999
    assert (seen["status"], seen["saga"]["status"]) == ("cancelled", "compensated")
    undone = [step["name"] for step in seen["saga"]["steps"] if step["operation"] == "compensation"]
    assert undone == ["process_payment", "reserve_stock", "create_order"]
    assert stock == (10, 0)
