"""GraphQL output types, with the same terms as the REST API."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from functools import partial
from typing import Any, Generic, Self, TypeVar

import strawberry
from strawberry import ID, Private
from strawberry.scalars import JSON

from durable_sagas.models import SagaInstance
from tasks import inventory
from web.api import serializers
from web.graphql import enums
from web.graphql.descriptions import output_type
from web.graphql.loaders import BookLoader, SagaLoader
from web.graphql.scalars import Amount
from workflows.read_side.queries import OrderView

Node = TypeVar("Node")


class FromRow:
    """Base class of types whose fields are attributes of a row, or of the REST API's response about it.

    So are those of the objects in it: the schema reads fields by name, whatever class an object has.
    """

    @classmethod
    def of(cls, row: object, **values: object) -> Self:
        """Return an object with these values; its other fields are the row's attributes of the same names."""
        declared: Any = fields(cls)  # type: ignore[arg-type]  # every subclass is a dataclass
        read = {field.name: getattr(row, field.name) for field in declared if field.init and field.name not in values}
        return cls(**read, **values)


@output_type
class PageInfo:
    """The end of a page: pass `endCursor` as `after` to get the next one."""

    end_cursor: str | None
    has_next_page: bool


@output_type
class Page(Generic[Node]):
    """A page of a longer list."""

    nodes: list[Node]
    page_info: PageInfo


@output_type
class Category(FromRow):
    """A category of books."""

    id: ID
    name: str
    description: str

    @classmethod
    def page(cls, rows: Sequence[inventory.Category]) -> list[Self]:
        """Return the categories of a page."""
        return list(map(cls.of, rows))


@output_type
class Product(FromRow):
    """A book and its stock: `stockQuantity` can be ordered, `reservedQuantity` is kept for orders under way."""

    id: ID
    name: str
    description: str
    price: Amount
    category_id: ID | None
    stock_quantity: int
    reserved_quantity: int
    received_quantity: int
    loader: Private[BookLoader]

    @strawberry.field
    def category(self) -> Category | None:
        """Return its category."""
        found = self.loader.categories.get(self.category_id) if self.category_id else None
        return Category.of(found) if found else None

    @classmethod
    def page(cls, rows: Sequence[inventory.Book]) -> list[Self]:
        """Return the books of a page."""
        loader = BookLoader(rows)
        return [
            cls.of(
                row,
                id=row.book_id,
                name=row.title,
                stock_quantity=row.available_stock,
                reserved_quantity=row.reserved_stock,
                received_quantity=row.received_stock,
                loader=loader,
            )
            for row in rows
        ]


@output_type
class OrderItem(FromRow):
    """A line of an order, with the title and the price that the catalogue had when it was placed."""

    product_id: ID
    product_name: str
    quantity: int
    unit_price: Amount


@output_type
class Payment:
    """The payment of an order."""

    status: enums.PaymentStatus
    amount: Amount
    transaction_id: str | None


@output_type
class Shipment:
    """The shipment of an order."""

    status: enums.ShipmentStatus
    tracking_number: str | None


@output_type
class Event(FromRow):
    """An event that a service published about an order; an order's events are numbered from 1."""

    sequence: int
    event_type: str
    aggregate_id: ID
    payload: JSON
    timestamp: datetime


@output_type
class Failure:
    """An attempt that failed."""

    attempt: int
    started_at: datetime
    finished_at: datetime
    error: str


@output_type
class Step(FromRow):
    """One operation of one step: its action, or its compensation."""

    name: str
    operation: enums.Operation
    status: enums.StepStatus
    attempts: int
    started_at: datetime
    finished_at: datetime | None
    error: str | None
    failures: list[Failure]
    result: JSON | None
    task_id: str | None
    done_by: str | None
    note: str | None


@output_type
class Milestone:
    """A state that a saga reached, and when."""

    state: str
    at: datetime


@output_type
class Saga(FromRow):
    """A saga, which completes an order or compensates it; `context` is the input of its steps."""

    id: ID
    saga_type: str
    order_id: ID
    status: enums.SagaStatus
    state: str
    current_step: str | None
    state_history: list[Milestone]
    context: JSON
    error: str | None
    cancel_requested_at: datetime | None
    cancel_decision: enums.CancelDecision | None
    cancel_reason: str | None
    deadline_at: datetime | None
    created_at: datetime
    updated_at: datetime
    loader: Private[SagaLoader]

    @strawberry.field
    def steps(self) -> list[Step]:
        """Return its actions and compensations, in the order in which they happened."""
        replies = map(serializers.step, self.loader.operations[self.id])
        return [Step.of(step, name=step.step_name, finished_at=step.completed_at) for step in replies]

    @strawberry.field
    def events(self) -> list[Event]:
        """Return the events of its order."""
        return list(map(Event.of, self.loader.events[self.order_id]))

    @strawberry.field
    def order(self) -> "Order":
        """Return its order."""
        return Order.one_of(self.loader, self.loader.orders[self.order_id])

    @classmethod
    def one_of(cls, loader: SagaLoader, row: SagaInstance) -> Self:
        """Return a saga of the page that the loader serves."""
        return cls.of(serializers.saga(row), id=row.id, loader=loader)

    @classmethod
    def page(cls, rows: Sequence[SagaInstance]) -> list[Self]:
        """Return the sagas of a page."""
        return [*map(partial(cls.one_of, SagaLoader(rows)), rows)]


@output_type
class Order(FromRow):
    """An order with what the services have done for it so far."""

    id: ID
    user_id: ID
    status: enums.OrderStatus
    total_amount: Amount
    items: list[OrderItem]
    payment_method: enums.PaymentMethod
    shipping_address: str
    payment: Payment | None
    shipment: Shipment | None
    created_at: datetime
    updated_at: datetime
    its_saga: Private[SagaInstance]
    loader: Private[SagaLoader]

    @strawberry.field
    def saga(self) -> Saga:
        """Return its saga."""
        return Saga.one_of(self.loader, self.its_saga)

    @strawberry.field
    def events(self) -> list[Event]:
        """Return its events."""
        return list(map(Event.of, self.loader.events[self.id]))

    @classmethod
    def one_of(cls, loader: SagaLoader, view: OrderView) -> Self:
        """Return an order of the page that the loader serves."""
        reply = serializers.order(view)
        items = [OrderItem.of(item, product_id=item.book_id, product_name=item.title) for item in reply.items]
        method = enums.PaymentMethod(reply.payment_method)
        return cls.of(
            reply,
            id=reply.order_id,
            user_id=reply.customer_id,
            items=items,
            payment_method=method,
            its_saga=view.saga,
            loader=loader,
        )

    @classmethod
    def page(cls, views: Sequence[OrderView]) -> list[Self]:
        """Return the orders of a page."""
        return [*map(partial(cls.one_of, SagaLoader([view.saga for view in views])), views)]
