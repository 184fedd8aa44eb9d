"""Seed 000's documents, word for word; only the ids that its author would fill in are placeholders."""

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
