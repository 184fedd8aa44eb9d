"""GraphQL output types, with the same terms as the REST API."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Generic, TypeVar

import strawberry
from strawberry import ID, Private
from strawberry.scalars import JSON

from durable_sagas.models import SagaInstance, StoredEvent
from tasks import inventory, payments, shipping
from web.api import serializers
from web.graphql.descriptions import output_type
from web.graphql.enums import (
    CancelDecision,
    Operation,
    OrderStatus,
    PaymentMethod,
    PaymentStatus,
    SagaStatus,
    ShipmentStatus,
    StepStatus,
)
from web.graphql.loaders import BookLoader, SagaLoader
from web.graphql.scalars import Amount
from workflows.read_side.queries import OrderView
from workflows.read_side.saga_history import HistoryEntry

Node = TypeVar("Node")


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
class Category:
    """A category of books."""

    id: ID
    name: str
    description: str

    @classmethod
    def of(cls, row: inventory.Category) -> "Category":
        """Return a category."""
        return cls(id=ID(row.id), name=row.name, description=row.description)


@output_type
class Product:
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
    def of(cls, row: inventory.Book, loader: BookLoader) -> "Product":
        """Return a book of a page."""
        return cls(
            id=ID(row.book_id),
            name=row.title,
            description=row.description,
            price=Amount(row.price),
            category_id=ID(row.category_id) if row.category_id else None,
            stock_quantity=row.available_stock,
            reserved_quantity=row.reserved_stock,
            received_quantity=row.received_stock,
            loader=loader,
        )

    @classmethod
    def page(cls, rows: Sequence[inventory.Book]) -> list["Product"]:
        """Return the books of a page."""
        loader = BookLoader(rows)
        return [cls.of(row, loader) for row in rows]


@output_type
class OrderItem:
    """A line of an order, with the title and the price that the catalogue had when it was placed."""

    product_id: ID
    product_name: str
    quantity: int
    unit_price: Amount


@output_type
class Payment:
    """The payment of an order."""

    status: PaymentStatus
    amount: Amount
    transaction_id: str | None

    @classmethod
    def of(cls, row: payments.Payment) -> "Payment":
        """Return a payment."""
        return cls(status=row.status, amount=Amount(row.amount), transaction_id=row.transaction_id)


@output_type
class Shipment:
    """The shipment of an order."""

    status: ShipmentStatus
    tracking_number: str | None

    @classmethod
    def of(cls, row: shipping.Shipment) -> "Shipment":
        """Return a shipment."""
        return cls(status=row.status, tracking_number=row.tracking_number)


@output_type
class Event:
    """An event that a service published about an order; an order's events are numbered from 1."""

    sequence: int
    event_type: str
    aggregate_id: ID
    payload: JSON
    timestamp: datetime

    @classmethod
    def of(cls, row: StoredEvent) -> "Event":
        """Return an event."""
        return cls(
            sequence=row.sequence,
            event_type=row.event_type,
            aggregate_id=ID(row.aggregate_id),
            payload=JSON(row.payload),
            timestamp=row.timestamp,
        )


@output_type
class Failure:
    """An attempt that failed."""

    attempt: int
    started_at: datetime
    finished_at: datetime
    error: str


@output_type
class Step:
    """One operation of one step: its action, or its compensation."""

    name: str
    operation: Operation
    status: StepStatus
    attempts: int
    started_at: datetime
    finished_at: datetime | None
    error: str | None
    failures: list[Failure]
    result: JSON | None
    task_id: str | None
    done_by: str | None
    note: str | None

    @classmethod
    def of(cls, logged: HistoryEntry) -> "Step":
        """Return an operation of the log."""
        return cls(
            name=logged.step,
            operation=logged.operation,
            status=logged.status,
            attempts=logged.attempts,
            started_at=logged.started_at,
            finished_at=logged.finished_at,
            error=logged.error,
            failures=list(map(_failure, logged.failures)),
            result=JSON(logged.result) if logged.result is not None else None,
            task_id=logged.task_id,
            done_by=logged.done_by,
            note=logged.note,
        )


@output_type
class Milestone:
    """A state that a saga reached, and when."""

    state: str
    at: datetime


@output_type
class Saga:
    """A saga, which completes an order or compensates it; `context` is the input of its steps."""

    id: ID
    saga_type: str
    order_id: ID
    status: SagaStatus
    state: str
    current_step: str | None
    state_history: list[Milestone]
    context: JSON
    error: str | None
    cancel_requested_at: datetime | None
    cancel_decision: CancelDecision | None
    cancel_reason: str | None
    deadline_at: datetime | None
    created_at: datetime
    updated_at: datetime
    loader: Private[SagaLoader]

    @strawberry.field
    def steps(self) -> list[Step]:
        """Return its actions and compensations, in the order in which they happened."""
        return list(map(Step.of, self.loader.operations[self.id]))

    @strawberry.field
    def events(self) -> list[Event]:
        """Return the events of its order."""
        return list(map(Event.of, self.loader.events[self.order_id]))

    @strawberry.field
    def order(self) -> "Order":
        """Return its order."""
        return Order.of(self.loader.orders[self.order_id], self.loader)

    @classmethod
    def of(cls, row: SagaInstance, loader: SagaLoader) -> "Saga":
        """Return a saga of a page."""
        return cls(
            id=ID(row.id),
            saga_type=row.saga_type,
            order_id=ID(row.aggregate_id),
            status=row.status,
            state=row.state,
            current_step=row.current_step,
            state_history=[_milestone(reached) for reached in row.state_history],
            context=JSON(serializers.context(row.payload)),
            error=row.failure_reason,
            **serializers.cancellation(row),
            deadline_at=row.deadline_at,
            created_at=row.created_at,
            updated_at=row.updated_at,
            loader=loader,
        )

    @classmethod
    def page(cls, rows: Sequence[SagaInstance]) -> list["Saga"]:
        """Return the sagas of a page."""
        loader = SagaLoader(rows)
        return [cls.of(row, loader) for row in rows]


@output_type
class Order:
    """An order with what the services have done for it so far."""

    id: ID
    user_id: ID
    status: OrderStatus
    total_amount: Amount
    items: list[OrderItem]
    payment_method: PaymentMethod
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
        return Saga.of(self.its_saga, self.loader)

    @strawberry.field
    def events(self) -> list[Event]:
        """Return its events."""
        return list(map(Event.of, self.loader.events[self.id]))

    @classmethod
    def of(cls, view: OrderView, loader: SagaLoader) -> "Order":
        """Return an order of a page."""
        placed = view.order
        return cls(
            id=ID(placed.id),
            user_id=ID(placed.customer_id),
            status=placed.status,
            total_amount=Amount(placed.total_amount),
            items=[
                OrderItem(
                    product_id=ID(item.book_id),
                    product_name=item.title,
                    quantity=item.quantity,
                    unit_price=Amount(item.unit_price),
                )
                for item in placed.items
            ],
            payment_method=PaymentMethod(placed.payment_method),
            shipping_address=placed.shipping_address,
            payment=Payment.of(view.payment) if view.payment else None,
            shipment=Shipment.of(view.shipment) if view.shipment else None,
            created_at=placed.created_at,
            updated_at=placed.updated_at,
            its_saga=view.saga,
            loader=loader,
        )

    @classmethod
    def page(cls, views: Iterable[OrderView]) -> list["Order"]:
        """Return the orders of a page."""
        shown = list(views)
        loader = SagaLoader([view.saga for view in shown])
        return [cls.of(view, loader) for view in shown]


def _failure(failure: dict[str, object]) -> Failure:
    return Failure(
        attempt=int(str(failure["attempt"])),
        started_at=_moment(failure["started_at"]),
        finished_at=_moment(failure["finished_at"]),
        error=str(failure["error"]),
    )


def _milestone(reached: dict[str, object]) -> Milestone:
    return Milestone(state=str(reached["state"]), at=_moment(reached["at"]))


def _moment(text: object) -> datetime:
    return datetime.fromisoformat(str(text))
