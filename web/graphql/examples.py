"""Example documents, including seed 000's three mutations verbatim except for the ids."""

from dataclasses import dataclass

from flask_babel import lazy_gettext as _


@dataclass(frozen=True)
class Example:
    """An example document and its title."""

    title: object
    document: str
    safe: bool = False
    """Whether it only reads, so that it may be sent by GET, as a link."""


EXAMPLES = (
    Example(
        _("Open a category"),
        """\
mutation {
  createCategory(input: { name: "電子機器", description: "電子機器カテゴリ" }) {
    id
    name
  }
}""",
    ),
    Example(
        _("Put something on sale"),
        """\
mutation {
  createProduct(
    input: {
      name: "スマートフォン"
      description: "最新モデル"
      price: 80000
      categoryId: "books"
      stockQuantity: 5
    }
  ) {
    id
    name
    stockQuantity
  }
}""",
    ),
    Example(
        _("Place an order"),
        """\
mutation CreateOrder {
  createOrder(
    input: {
      userId: "user-123"
      items: [
        {
          productId: "book-123"
          productName: "クラウド設計パターン集"
          quantity: 2
          unitPrice: 3500
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
}""",
    ),
    Example(
        _("What is on sale"),
        """\
{
  products(first: 10) {
    nodes { id name price stockQuantity category { name } }
    pageInfo { endCursor hasNextPage }
  }
}""",
        safe=True,
    ),
    Example(
        _("The latest sagas, with every step"),
        """\
{
  sagas(first: 5) {
    nodes {
      id sagaType status state error
      order { id status totalAmount payment { status } }
      steps { name operation status attempts error }
    }
  }
}""",
        safe=True,
    ),
    Example(
        _("Stuck sagas, which need an operator"),
        """\
{
  sagas(status: stuck) {
    nodes { id currentStep error events { sequence eventType timestamp } }
  }
}""",
        safe=True,
    ),
)
