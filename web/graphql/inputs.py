"""Input types of mutations: the fields of seed 000, and the REST API's further ones."""

from strawberry import ID

from web.graphql.descriptions import input_type
from web.graphql.enums import Pattern, PaymentMethod
from web.graphql.scalars import Amount


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
