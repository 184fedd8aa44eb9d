"""Models of requests: bodies, queries, paths and headers."""

from functools import cache
from typing import Any

from pydantic import (
    AliasChoices,
    BaseModel,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

from durable_sagas.definition import SagaStatus
from durable_sagas.models import SagaInstance
from tasks.inventory import Book
from tasks.orders import OrderStatus
from tasks.payments import PaymentMethod
from web import cursors
from web.fields import (
    DEFAULT_PAGE,
    MAX_PAGE,
    PATTERN_OF,
    Address,
    Amount,
    Delivered,
    Description,
    FaultText,
    Id,
    Name,
    OwnId,
    PathId,
    Quantity,
    SagaType,
    Stock,
    Title,
)
from workflows.catalogue import NewBook
from workflows.orders import Item, NewOrder, Pattern
from workflows.read_side import queries
from workflows.read_side.queries import OrderView, Page

MAX_LINES = 100


class Strict(BaseModel, extra="forbid"):
    """A model that rejects unknown fields, which would otherwise be dropped silently."""


class KnownSchema(BaseModel):
    """Caches the schema of headers and queries, which flask-openapi3 needs for every request."""

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the schema; without arguments it is a cached one, which must not be changed."""
        return super().model_json_schema(*args, **kwargs) if args or kwargs else cls._schema()

    @classmethod
    @cache
    def _schema(cls) -> dict[str, Any]:
        return super().model_json_schema()


class Simulate(Strict):
    """Which services to break for one order, and how."""

    orders: FaultText | None = None
    inventory: FaultText | None = None
    payments: FaultText | None = None
    shipping: FaultText | None = None

    def faults(self) -> tuple[tuple[str, str], ...]:
        """Return the requested faults, in an order that does not depend on that of the request."""
        return tuple(sorted(self.model_dump(exclude_none=True).items()))


def _one_of(*names: str) -> JsonDict:
    """Return the JSON schema that requires exactly one of these fields."""
    return {"oneOf": [{"required": [name], "properties": {name: {"type": "string"}}} for name in names]}


class BookChoice(Strict, json_schema_extra=_one_of("product_id", "book_id")):
    """A book, named in one of two ways."""

    product_id: Id | None = None
    book_id: Id | None = None
    quantity: Quantity
    price: Amount | None = Field(None, description="What the client believes one copy costs.")

    @model_validator(mode="before")
    @classmethod
    def _ask_for_the_book(cls, data: Any) -> Any:
        # so that a missing book is reported under the field name that the client uses
        return {cls.model_fields["book_id"].alias or "book_id": None, **data} if isinstance(data, dict) else data

    @field_validator("book_id")
    @classmethod
    def _named_once(cls, book_id: str | None, info: ValidationInfo) -> str | None:
        # an invalid product id is absent here, and has been reported already
        if "product_id" in info.data and (book_id is None) == (info.data["product_id"] is None):
            raise ValueError("the book must be named once, by its product id or by its book id")
        return book_id

    @property
    def item(self) -> Item:
        """The item as a domain object."""
        return Item(self.book_id or self.product_id or "", self.quantity, self.price)

    @property
    def book_field(self) -> str:
        """The field by which the client identified the book."""
        return "book_id" if self.book_id else "product_id"


ORDER_EXAMPLE: JsonDict = {
    "customer_id": "customer-123",
    "items": [{"product_id": "product-1", "quantity": 2, "price": 100.0}],
}


class PlaceOrder(Strict, json_schema_extra={"example": ORDER_EXAMPLE}):
    """An order as seed 003 writes it, in either pattern."""

    customer_id: Id | None = Field(None, description="Unset: a guest's order.")
    items: list[BookChoice] = Field(min_length=1, max_length=MAX_LINES)
    pattern: Pattern | None = Field(None, description="Unset: the saga type's, else orchestration.")
    saga_type: SagaType | None = None
    payment_method: PaymentMethod = PaymentMethod.CREDIT_CARD
    shipping_address: Address | None = None
    amount: Amount | None = Field(None, description="What the client believes the order costs in all.")
    order_id: OwnId | None = Field(None, validation_alias=AliasChoices("order_id", "orderId"))
    simulate: Simulate | None = Field(None, description="Accepted only where faults may be simulated.")

    @field_validator("saga_type")
    @classmethod
    def _of_the_pattern(cls, saga_type: str | None, info: ValidationInfo) -> str | None:
        pattern = info.data.get("pattern")
        if saga_type and pattern and PATTERN_OF[saga_type] is not pattern:
            raise ValueError(f"{saga_type} is of the pattern {PATTERN_OF[saga_type]}, not {pattern}")
        return saga_type

    def to_order(self) -> NewOrder:
        """Return the request as a domain object."""
        return new_order(
            self,
            items=tuple(item.item for item in self.items),
            pattern=self.pattern or (PATTERN_OF[self.saga_type] if self.saga_type else None),
            saga_type=self.saga_type,
        )

    def client_name(self, field: str) -> str:
        """Return the client's name of a field that the domain rejected."""
        for line, item in enumerate(self.items):
            if field == f"items.{line}.book_id":
                return f"items.{line}.{item.book_field}"
        return field


SHORT_EXAMPLE: JsonDict = {"customerId": "customer-001", "bookId": "book-123", "quantity": 1, "price": 3500}


class ShortOrder(
    BookChoice,
    alias_generator=to_camel,
    json_schema_extra={**_one_of("productId", "bookId"), "example": SHORT_EXAMPLE},
):
    """An order of one book, as the seeds' short paths write it: ``price`` is one copy's, ``amount`` the total."""

    customer_id: Id | None = None
    amount: Amount | None = None
    order_id: OwnId | None = None
    payment_method: PaymentMethod = PaymentMethod.CREDIT_CARD
    shipping_address: Address | None = None
    simulate: Simulate | None = None

    def to_order(self, saga_type: str) -> NewOrder:
        """Return the request as a domain object."""
        return new_order(self, items=(self.item,), pattern=PATTERN_OF[saga_type], saga_type=saga_type)

    def client_name(self, field: str) -> str:
        """Return the client's name of a field that the domain rejected."""
        name = field.removeprefix("items.0.")
        if name == "book_id":
            name = self.book_field
        return to_camel(name) if "_" in name else name


def new_order(
    body: PlaceOrder | ShortOrder, *, items: tuple[Item, ...], pattern: Pattern | None, saga_type: str | None
) -> NewOrder:
    """Return an order as a domain object; fields that the client omitted stay unset."""
    return NewOrder(
        items=items,
        pattern=pattern,
        saga_type=saga_type if pattern is not Pattern.CHOREOGRAPHY else None,
        customer_id=body.customer_id,
        payment_method=body.payment_method if "payment_method" in body.model_fields_set else None,
        shipping_address=body.shipping_address,
        amount=body.amount,
        simulate=body.simulate.faults() if body.simulate else (),
        order_id=body.order_id,
    )


class ChangeOrder(Strict, json_schema_extra={"example": {"shipping_address": "大阪府大阪市1-1"}}):
    """The changes to an order."""

    shipping_address: Address


class ChangeShortOrder(
    ChangeOrder, alias_generator=to_camel, json_schema_extra={"example": {"shippingAddress": "大阪府大阪市1-1"}}
):
    """The changes to an order, on the seeds' short path."""


BY_HAND_EXAMPLE: JsonDict = {"by": "Ann", "note": "paid back by bank transfer", "step": "process_payment"}


class ByHand(Strict, json_schema_extra={"example": BY_HAND_EXAMPLE}):
    """An operator's confirmation that a stuck compensation was done manually outside the system."""

    by: Name = Field(description="Who confirms it.")
    note: Description | None = Field(None, description="What was done, for the history.")
    step: Id | None = Field(None, description="The step that was resolved manually; needed if several are stuck.")


class NewCategory(Strict, json_schema_extra={"example": {"name": "電子機器", "description": "電子機器カテゴリ"}}):
    """A new category."""

    name: Name
    description: Description = ""


PRODUCT_EXAMPLE: JsonDict = {
    "name": "クラウド設計パターン集",
    "price": 3500,
    "category_id": "books",
    "stock_quantity": 5,
}


class NewProduct(Strict, json_schema_extra={"example": PRODUCT_EXAMPLE}):
    """A new book."""

    name: Title
    description: Description = ""
    price: Amount
    category_id: Id | None = None
    stock_quantity: Stock
    book_id: OwnId | None = None

    def to_book(self) -> NewBook:
        """Return the book as a domain object."""
        return NewBook(
            title=self.name,
            description=self.description,
            price=self.price,
            category_id=self.category_id,
            stock=self.stock_quantity,
            book_id=self.book_id,
        )


class Restock(Strict, json_schema_extra={"example": {"quantity": 10}}):
    """A delivery of new copies."""

    quantity: Delivered


class IdempotencyHeader(KnownSchema):
    """The key that identifies a repeated request."""

    key: str | None = Field(
        None,
        alias="Idempotency-Key",
        pattern=r"^[\x20-\x7e]{1,200}$",
        description="At most 200 printable ASCII characters. The same key with the same body gets the same answer.",
    )


class OrderPath(BaseModel):
    """The path parameters of an order."""

    order_id: PathId


class SagaPath(BaseModel):
    """The path parameters of a saga."""

    saga_id: PathId


class BookPath(BaseModel):
    """The path parameters of a book."""

    book_id: PathId


class PageQuery(Strict, KnownSchema):
    """The page of a list."""

    limit: int = Field(DEFAULT_PAGE, ge=1, le=MAX_PAGE)
    cursor: str | None = Field(None, max_length=cursors.MAX_LENGTH, description="The next_cursor of the page before.")


class ResumeQuery(PageQuery):
    """The batch of stuck sagas to resume."""

    step: Id = Field(description="The step on which they are stuck.")
    limit: int = Field(100, ge=1, le=1000)


class OrdersQuery(PageQuery):
    """Filters and page of a list of orders."""

    status: OrderStatus | None = None
    customer_id: Id | None = Field(None, validation_alias=AliasChoices("customer_id", "customer"))

    def page(self) -> Page[OrderView]:
        """Return the page of orders that is asked for. Raises Invalid if the cursor is malformed."""
        return queries.orders(**self.model_dump(exclude={"cursor"}), after=cursors.time_position(self.cursor))


class ShortOrdersQuery(OrdersQuery):
    """Filters and page of a list of orders, on the seeds' short path."""

    customer_id: Id | None = Field(None, alias="customerId")


class SagasQuery(PageQuery):
    """Filters and page of a list of sagas."""

    status: SagaStatus | None = None
    saga_type: SagaType | None = Field(None, validation_alias=AliasChoices("saga_type", "type"))
    step: Id | None = Field(None, description="The step at which they are, or on which they are stuck.")
    customer_id: Id | None = Field(None, validation_alias=AliasChoices("customer_id", "customer"))

    def page(self) -> Page[SagaInstance]:
        """Return the page of sagas that is asked for. Raises Invalid if the cursor is malformed."""
        return queries.sagas(**self.model_dump(exclude={"cursor"}), after=cursors.uuid_position(self.cursor))


class InventoryQuery(PageQuery):
    """Filters and page of a list of books."""

    category_id: Id | None = None

    def page(self) -> Page[Book]:
        """Return the page of books that is asked for. Raises Invalid if the cursor is malformed."""
        return queries.books(**self.model_dump(exclude={"cursor"}), after=cursors.text_position(self.cursor))
