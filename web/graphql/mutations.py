"""GraphQL mutations: seed 000's three, with the semantics of the REST API and its further fields."""

from typing import Any

import strawberry
from strawberry import ID

from web.api.requests import IdempotencyHeader, NewCategory, NewProduct, PlaceOrder
from web.auth.operators import require_operator
from web.graphql.descriptions import input_type, output_type
from web.graphql.enums import Pattern, PaymentMethod
from web.graphql.field_names import to_dict, validate, with_graphql_names
from web.graphql.scalars import Amount
from web.graphql.types import Category, Order, Product
from web.order_placement import place
from workflows import catalogue
from workflows.read_side import queries

KEY = "Idempotency-Key"
ORDER_NAMES = {"customer_id": "userId", "price": "unitPrice", "amount": "totalAmount", KEY: "idempotencyKey"}


@input_type
class CreateCategoryInput:
    """A new category."""

    name: str
    description: str | None = None


@input_type
class CreateProductInput:
    """A new book; `id` is an id of your own, if you have one."""

    name: str
    description: str | None = None
    price: Amount
    category_id: ID | None = None
    stock_quantity: int
    id: ID | None = None


@input_type
class OrderItemInput:
    """A number of copies of a book. A `unitPrice` other than the catalogue's is refused; `productName` is ignored."""

    product_id: ID
    product_name: str | None = None
    quantity: int
    unit_price: Amount | None = None


@input_type
class SimulateInput:
    """Which services to break for this order: `decline`, `timeout`, `hang`, `fail:N` or `undo-fail:N`."""

    orders: str | None = None
    inventory: str | None = None
    payments: str | None = None
    shipping: str | None = None


@input_type
class CreateOrderInput:
    """An order. Without `userId` it is a guest's; the same `idempotencyKey` with the same order is one order."""

    user_id: ID | None = None
    items: list[OrderItemInput]
    pattern: Pattern | None = None
    saga_type: str | None = None
    payment_method: PaymentMethod | None = None
    shipping_address: str | None = None
    total_amount: Amount | None = None
    order_id: ID | None = None
    simulate: SimulateInput | None = None
    idempotency_key: str | None = None


@output_type
class Mutation:
    """The mutations of the shop."""

    @strawberry.mutation
    def create_category(self, input: CreateCategoryInput) -> Category:  # noqa: A002  (seed 000's name)
        """Open a new category. For operators only."""
        require_operator()
        with with_graphql_names():
            body = validate(NewCategory, to_dict(input))
        return Category.of(catalogue.add_category(body.name, body.description))

    @strawberry.mutation
    def create_product(self, input: CreateProductInput) -> Product:  # noqa: A002
        """Put a new book on sale. For operators only."""
        require_operator()
        with with_graphql_names(book_id="id"):
            body = validate(NewProduct, to_dict(input, id="book_id"))
            book = catalogue.add_book(body.to_book())
        return Product.page([book])[0]

    @strawberry.mutation
    def create_order(self, input: CreateOrderInput) -> Order:  # noqa: A002
        """Place an order: it is stored and its saga is started; the response does not wait for the saga to end."""
        with with_graphql_names(**ORDER_NAMES):
            key = validate(IdempotencyHeader, {KEY: input.idempotency_key}).key
            body = validate(PlaceOrder, _as_body(input))
            placed = place(body, body.to_order(), key)
        return Order.page([queries.order(placed.order_id)])[0]


def _as_body(order: CreateOrderInput) -> dict[str, Any]:
    body = to_dict(order, user_id="customer_id", total_amount="amount")
    body.pop("idempotency_key", None)
    body["items"] = [to_dict(item, unit_price="price") for item in order.items]
    for line in body["items"]:
        line.pop("product_name", None)  # informative only: the order has the catalogue's title
    if order.simulate:
        body["simulate"] = to_dict(order.simulate)
    return body
