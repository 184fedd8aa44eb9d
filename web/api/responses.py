"""Models of responses; the seeds' short paths return the same in camelCase."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Self

from flask import Response
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from durable_sagas.definition import CancelDecision, Operation, OperatorActionType, SagaStatus, StepStatus
from tasks.amounts import number
from tasks.orders import OrderStatus
from tasks.payments import PaymentStatus
from tasks.shipping import ShipmentStatus
from web.api.examples import exemplify

Number = Annotated[Decimal, PlainSerializer(number, return_type=int | float)]


class ResponseModel(BaseModel):
    """Base class of all responses."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra=exemplify)

    @classmethod
    def of(cls, *rows: object, **values: object) -> Self:
        """Return a response with these values; its other fields are attributes of the first row that has them."""
        read = {name: getattr(row, name) for row in reversed(rows) for name in cls.model_fields if hasattr(row, name)}
        return cls.model_validate({**read, **values})


class CamelCaseModel(ResponseModel):
    """A response in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True)


def _if_known(description: str | None = None) -> Any:
    """Return a field that is omitted, instead of null, while it has no value."""
    return Field(None, exclude_if=lambda value: value is None, description=description)


def json_response(body: ResponseModel, status: int = 200, *, location: str | None = None) -> Response:
    """Return a JSON response."""
    response = Response(body.model_dump_json(), status, mimetype="application/json")
    if location:
        response.headers["Location"] = location
    return response


class StartedReply(ResponseModel):
    """An order that was accepted and is being processed."""

    saga_id: str
    order_id: str
    status: str
    message: str


class ItemReply(ResponseModel):
    """A line of an order."""

    book_id: str
    title: str
    quantity: int
    unit_price: Number


class PaymentReply(ResponseModel):
    """The payment of an order."""

    status: PaymentStatus
    amount: Number
    transaction_id: str | None


class ShipmentReply(ResponseModel):
    """The shipment of an order."""

    status: ShipmentStatus
    tracking_number: str | None


class OrderReply(ResponseModel):
    """An order with what the services have done for it so far."""

    order_id: str
    customer_id: str
    status: OrderStatus
    items: tuple[ItemReply, ...]
    total_amount: Number
    payment_method: str
    shipping_address: str
    saga_id: str
    saga_type: str
    saga_status: SagaStatus
    saga_state: str
    cancel_requested_at: datetime | None
    cancel_decision: CancelDecision | None
    cancel_reason: str | None
    payment: PaymentReply | None
    shipment: ShipmentReply | None
    created_at: datetime
    updated_at: datetime


class OrdersReply(ResponseModel):
    """A page of orders, newest first."""

    orders: tuple[OrderReply, ...]
    next_cursor: str | None


class EventReply(ResponseModel):
    """An event that a service published."""

    sequence: int
    event_type: str
    aggregate_id: str
    payload: dict[str, Any]
    timestamp: datetime


class EventsReply(ResponseModel):
    """An order's events, in the order in which they were written."""

    order_id: str
    events: tuple[EventReply, ...]


class StateReply(ResponseModel):
    """A state that a saga reached, and when."""

    state: str
    at: datetime


class SagaProgress(ResponseModel):
    """How far a saga is."""

    saga_id: str
    order_id: str
    saga_type: str
    status: SagaStatus
    state: str
    current_step: str | None
    state_history: tuple[StateReply, ...]
    error: str | None
    cancel_requested_at: datetime | None
    cancel_decision: CancelDecision | None
    cancel_reason: str | None


class SagaReply(SagaProgress):
    """A saga; ``context`` is the input of its steps, ``trace_id`` the trace of all its operations."""

    context: dict[str, Any]
    trace_id: str | None
    deadline_at: datetime | None
    created_at: datetime
    updated_at: datetime


class SagasReply(ResponseModel):
    """A page of sagas, newest first."""

    sagas: tuple[SagaReply, ...]
    next_cursor: str | None


class FailureReply(ResponseModel):
    """An attempt that failed."""

    attempt: int
    started_at: datetime
    finished_at: datetime
    error: str


class StepReply(ResponseModel):
    """One operation of one step; without ``completed_at`` while it is under way."""

    step_name: str
    operation: Operation
    status: StepStatus
    started_at: datetime = Field(description="When its first attempt began.")
    completed_at: datetime | None = _if_known()
    retry_attempt: int
    attempts: int
    error: str | None
    task_id: str | None
    failures: tuple[FailureReply, ...]
    result: dict[str, Any] | None
    done_by: str | None = Field(description="Who confirmed that it was completed manually.")
    note: str | None


class ActReply(ResponseModel):
    """An operator's action on a saga."""

    act: OperatorActionType
    at: datetime
    by: str
    note: str | None


class HistoryReply(ResponseModel):
    """A saga's operations in order: actions, then compensations; and the operators' actions on it."""

    saga_id: str
    history: tuple[StepReply, ...]
    acts: tuple[ActReply, ...]


class AskedReply(ResponseModel):
    """An accepted operation on a saga; ``status`` is the saga's."""

    saga_id: str
    status: SagaStatus


class RefusedReply(ResponseModel):
    """A saga that could not be resumed, and the reason."""

    saga_id: str
    reason: str


class CancelRequestedReply(AskedReply):
    """An accepted request to cancel; while ``cancel_decision`` is pending, the saga shows the decision later."""

    cancel_requested_at: datetime | None
    cancel_decision: CancelDecision | None
    cancel_reason: str | None


class CancelReply(CancelRequestedReply):
    """An accepted request to cancel; while ``cancel_decision`` is pending, the order shows the decision later.

    ``status`` is the saga's at the time of the response.
    """

    order_id: str


class ResumedReply(ResponseModel):
    """The stuck sagas that were resumed."""

    resumed: tuple[str, ...]
    refused: tuple[RefusedReply, ...]
    next_cursor: str | None


class BookReply(ResponseModel):
    """A book and its stock."""

    book_id: str
    title: str
    description: str
    category_id: str | None
    price: Number
    received_stock: int
    available_stock: int
    reserved_stock: int


class BooksReply(ResponseModel):
    """A page of the catalogue, by book id."""

    books: tuple[BookReply, ...]
    next_cursor: str | None


class CategoryReply(ResponseModel):
    """A category."""

    id: str
    name: str
    description: str


class CategoriesReply(ResponseModel):
    """A page of the categories, by id."""

    categories: tuple[CategoryReply, ...]
    next_cursor: str | None


class AliveReply(ResponseModel):
    """The process runs."""

    status: str = Field(json_schema_extra={"example": "alive"})


class ReadyReply(ResponseModel):
    """The process is ready: its dependencies respond."""

    status: str = Field(json_schema_extra={"example": "ready"})
    database: str
    broker: str


class CamelStartedReply(CamelCaseModel, StartedReply):
    """An order that was accepted and is being processed."""


class CamelItemReply(CamelCaseModel, ItemReply):
    """A line of an order."""


class CamelPaymentReply(CamelCaseModel, PaymentReply):
    """The payment of an order."""


class CamelShipmentReply(CamelCaseModel, ShipmentReply):
    """The shipment of an order."""


class CamelOrderReply(CamelCaseModel, OrderReply):
    """An order with what the services have done for it so far."""

    items: tuple[CamelItemReply, ...]
    payment: CamelPaymentReply | None
    shipment: CamelShipmentReply | None


class CamelOrdersReply(CamelCaseModel):
    """A page of orders, newest first."""

    orders: tuple[CamelOrderReply, ...]
    next_cursor: str | None


class CamelCancelReply(CamelCaseModel, CancelReply):
    """An accepted request to cancel; while ``cancelDecision`` is pending, the status shows the decision later."""


class FlatItemReply(CamelCaseModel):
    """A number of copies of a book; ``productId`` is seed 004's name of ``bookId``."""

    book_id: str
    product_id: str
    quantity: int


class FlatEventReply(CamelCaseModel):
    """An event in the form of seeds 002 and 004: the payload's fields next to the type; absent ones are omitted."""

    sequence: int
    event_type: str
    order_id: str
    customer_id: str | None = _if_known()
    book_id: str | None = _if_known("Where it is about one book.")
    product_id: str | None = _if_known("Seed 004's name of ``bookId``.")
    quantity: int | None = _if_known()
    items: tuple[FlatItemReply, ...] | None = _if_known("Where it is about several books.")
    amount: Number | None = _if_known()
    total_amount: Number | None = _if_known()
    reason: str | None = _if_known()
    timestamp: datetime


class FlatEventsReply(CamelCaseModel):
    """An order's events, in the order in which they were written."""

    order_id: str
    events: tuple[FlatEventReply, ...]


class SagaStatusReply(CamelCaseModel, SagaProgress):
    """The status of an order's saga, and the states of seed 001 that it has reached."""


class StepAnswerReply(CamelCaseModel):
    """One operation of one step in seed 001's form, with its times and the number of retries."""

    success: bool
    saga_id: str
    step_id: str
    result: dict[str, Any] | None
    error: str | None
    operation: Operation
    status: StepStatus
    started_at: datetime
    completed_at: datetime | None = _if_known()
    retry_attempt: int


class SagaHistoryReply(CamelCaseModel):
    """The history of an order's saga, in the states of seed 001."""

    saga_id: str
    order_id: str
    states: tuple[StateReply, ...]
    steps: tuple[StepAnswerReply, ...]
