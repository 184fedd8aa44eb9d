"""Place, change and cancel orders, in either pattern. The API, the pages and the demo all use this module."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, bindparam, literal_column, null, select, union_all
from sqlalchemy.orm import Session

from app import runtime
from app.database.group_commit import GroupCommit, Request
from app.database.statements import insert_new
from app.errors import Conflict, Forbidden, Invalid, NotFound, PriceMismatch, RequestError
from app.fault_injection import Fault
from app.sagas import sagas
from durable_sagas import OrchestratedSaga
from durable_sagas.database import table_of
from durable_sagas.definition import FORWARD
from durable_sagas.history import history
from durable_sagas.ids import new_id
from durable_sagas.models import SagaInstance
from tasks import orders
from tasks.amounts import number
from tasks.inventory import Book
from tasks.orders import Customer, Order, OrderItem, OrderRequest, OrderStatus
from tasks.payments import PaymentMethod
from workflows.order_choreography import ORDER_CHOREOGRAPHY, ready_to_ship
from workflows.order_orchestration import ORDER, ORDER_CREATED, ORDER_PAYMENT_FIRST

GUEST = "guest"
DEFAULT_ADDRESS = "to be collected at the shop"


class Pattern(StrEnum):
    """The two saga patterns in which an order can be processed."""

    ORCHESTRATION = "orchestration"
    CHOREOGRAPHY = "choreography"


SAGAS: dict[str, OrchestratedSaga] = {saga.name: saga for saga in (ORDER, ORDER_PAYMENT_FIRST)}
"""The orchestrated sagas that a client may request, by saga type; the first one is the default."""


@dataclass(frozen=True)
class Item:
    """A book and its quantity; ``unit_price`` is the price that the client expects, if it sent one."""

    book_id: str
    quantity: int
    unit_price: Decimal | None = None


@dataclass(frozen=True)
class NewOrder:
    """A syntactically valid request for an order, as the client sent it: omitted fields are None.

    ``amount`` is the total that the client expects, if it sent one. Defaults (the constants above) are applied when
    the order is stored.
    """

    items: tuple[Item, ...]
    pattern: Pattern | None = None
    customer_id: str | None = None
    saga_type: str | None = None
    payment_method: PaymentMethod | None = None
    shipping_address: str | None = None
    amount: Decimal | None = None
    simulate: tuple[tuple[str, str], ...] = ()
    order_id: str | None = None

    @property
    def customer(self) -> str:
        """Return the id of the customer, or the guest's."""
        return self.customer_id or GUEST

    @property
    def fingerprint(self) -> str:
        """Return a hash that identifies the request's content.

        It covers what the client sent, before defaults are applied, so a release with one more field or another default
        computes the same fingerprint for the same request.
        """
        content = {**_sent(self), "items": [_sent(item) for item in self.items]}
        return f"{FINGERPRINT_VERSION}:{hashlib.blake2b(_canonical(content), digest_size=30).hexdigest()}"

    def matches(self, fingerprint: str) -> bool:
        """Return whether a stored fingerprint is this request's, in the current format or in the first one."""
        return fingerprint in {self.fingerprint, self._first_fingerprint()}

    def _first_fingerprint(self) -> str | None:
        """Return the fingerprint in the first format: SHA-256 of these fields, with the defaults of that time.

        None if the request has a field that the first format did not know.
        """
        first = {
            "items": [
                {"book_id": item.book_id, "quantity": item.quantity, "unit_price": item.unit_price}
                for item in self.items
            ],
            "pattern": self.pattern or "orchestration",
            "customer_id": self.customer_id or "guest",
            "saga_type": self.saga_type,
            "payment_method": self.payment_method or "credit_card",
            "shipping_address": self.shipping_address or "to be collected at the shop",
            "amount": self.amount,
            "simulate": self.simulate,
            "order_id": self.order_id,
        }
        known = _sent(self).keys() <= first.keys()
        known &= all(_sent(item).keys() <= {"book_id", "quantity", "unit_price"} for item in self.items)
        return hashlib.sha256(_canonical(first)).hexdigest() if known else None


FINGERPRINT_VERSION = "v2"
"""Stored with each fingerprint. Change it with the fingerprint's format, and keep matching the older formats."""


def _sent(request: NewOrder | Item) -> dict[str, Any]:
    """Return the fields that differ from their defaults."""
    found = {field: getattr(request, field.name) for field in fields(request)}
    return {field.name: value for field, value in found.items() if value != field.default}


def _canonical(content: Mapping[str, Any]) -> bytes:
    # 500 and 500.00 are the same amount
    return json.dumps(content, sort_keys=True, default=lambda amount: str(Decimal(amount).normalize())).encode()


@dataclass(frozen=True)
class PlacedOrder:
    """The order and the saga of a request; ``replayed`` if an earlier, identical request created them."""

    order_id: str
    saga_id: str
    replayed: bool


@dataclass(frozen=True)
class _KeyedOrder:
    """A request, and the keys by which a replay of it is recognised."""

    request: NewOrder
    keys: list[str]


_PlaceRequest = Request[_KeyedOrder, PlacedOrder]


def place(request: NewOrder, idempotency_key: str | None = None) -> PlacedOrder:
    """Store an order and its saga in one transaction and start the saga; does not wait for any step.

    Idempotent by ``idempotency_key`` and by the request's own order id: a replay returns the first request's order.
    Raises Invalid (unknown book or customer, or the key was used for another request), PriceMismatch (an expected price
    or total differs from the catalogue's), Forbidden (fault injection is disabled), and Overloaded (too many orders
    are unfinished) unless it is a replay.
    """
    _check_faults(request)
    keyed = _KeyedOrder(request, _keys(request, idempotency_key))
    if overload := sagas.admission.overload():
        if earlier := _find_earlier(keyed):
            return earlier
        sagas.admission.refuse(overload)
    try:
        # not batched with a key: it may have to wait for a concurrent request with the same key
        return _group_commit.run_alone(keyed) if keyed.keys else _group_commit.submit(keyed)
    except orders.OrderExists:
        # a concurrent request with the same key committed first
        if earlier := _find_earlier(keyed):
            return earlier
        raise Invalid(f"there is an order {request.order_id} already", field="order_id") from None


def change_address(order_id: str, shipping_address: str) -> None:
    """Change the shipping address. Raises NotFound, and Conflict once shipping may have been booked."""
    with runtime.current().database.transaction() as session:
        saga = session.scalar(select(SagaInstance).where(SagaInstance.aggregate_id == order_id).with_for_update())
        order = session.get(Order, order_id, with_for_update=True)
        if saga is None or order is None:
            raise NotFound(f"there is no order {order_id}")
        if order.status != OrderStatus.PENDING or saga.status not in FORWARD:
            raise Conflict(f"the order is {order.status}, its address can no longer be changed", status=order.status)
        past = history(session, order_id)
        if ready_to_ship(past):
            raise Conflict("the order is being shipped, its address can no longer be changed", status=order.status)
        # events are only written under the lock on the saga's row, held here: shipping reads this event before it books
        sagas.emit(session, order_id, orders.change_address(order, shipping_address), saga_id=saga.id)
        saga.payload = {**saga.payload, "shipping_address": shipping_address}


def cancel(order_id: str) -> SagaInstance:
    """Request the cancellation of an order; returns its saga. Raises NotFound and Conflict."""
    return sagas.cancel(sagas.saga_of(order_id))


def _check_faults(request: NewOrder) -> None:
    if not request.simulate:
        return
    if not runtime.current().settings.faults_allowed:
        raise Forbidden("faults cannot be simulated here: set FAULT_INJECTION=1 to allow it", field="simulate")
    for service, fault in request.simulate:
        if service == "orders" and fault == "decline" and request.pattern is Pattern.CHOREOGRAPHY:
            raise Invalid(
                "a choreographed order is created with its request, so orders cannot decline it",
                field="simulate.orders",
            )
        if Fault.parse(fault).kind == "timeout" and service not in {"payments", "shipping"}:
            raise Invalid(f"{service} calls no gateway that could time out", field=f"simulate.{service}")


def _keys(request: NewOrder, idempotency_key: str | None) -> list[str]:
    keys = [f"key:{idempotency_key}"] if idempotency_key else []
    return [*keys, f"order:{request.order_id}"] if request.order_id else keys


def _find_earlier(keyed: _KeyedOrder) -> PlacedOrder | None:
    """Return the order of an earlier request with the same keys, in a transaction of its own."""
    if not keyed.keys:
        return None
    with runtime.current().database.transaction() as session:
        return _find_replay(session, keyed.keys, keyed.request)


def _find_replay(session: Session, keys: list[str], request: NewOrder) -> PlacedOrder | None:
    if not keys:
        return None
    # columns instead of entities: an entity of a row that is being pruned would conflict in the session's identity map
    # with the new row that takes its key
    columns = select(OrderRequest.key, OrderRequest.fingerprint, OrderRequest.order_id)
    found = session.execute(columns.where(OrderRequest.key.in_(keys))).all()
    for earlier in found:
        if not request.matches(earlier.fingerprint):
            own_id = earlier.key.startswith("order:")
            what, field = ("the order id", "order_id") if own_id else ("the key", "Idempotency-Key")
            raise Invalid(f"{what} was used before, for a different request", field=field)
    if not found:
        return None
    order_id = found[0].order_id
    # locked against pruning: a key must not be recorded for an order that is being deleted
    query = select(SagaInstance.id).where(SagaInstance.aggregate_id == order_id)
    saga_id = session.scalar(query.with_for_update(read=True, key_share=True))
    if saga_id is None:
        return None
    # a key that a concurrent request records first stays with that request
    insert_new(session, _key_rows(set(keys) - {earlier.key for earlier in found}, request, order_id))
    return PlacedOrder(order_id, saga_id, replayed=True)


def _key_rows(keys: Iterable[str], request: NewOrder, order_id: str) -> list[OrderRequest]:
    """Return the rows that record the keys of an order."""
    now, fingerprint = runtime.current().now(), request.fingerprint
    return [OrderRequest(key=key, fingerprint=fingerprint, order_id=order_id, created_at=now) for key in keys]


def _place_all(session: Session, queued: Sequence[_PlaceRequest]) -> None:
    """Place the orders of all new requests with one set of statements; replays get their earlier order."""
    new = []
    for entry in queued:
        with _refusal_of(entry):
            if earlier := _find_replay(session, entry.payload.keys, entry.payload.request):
                entry.value = earlier
            else:
                new.append(entry)
    if not new:
        return
    books, customers = _known(session, [entry.payload.request for entry in new])
    priced = []
    for entry in new:
        request = entry.payload.request
        with _refusal_of(entry):
            items = _items(request, books)
            if request.customer not in customers:
                raise Invalid(f"there is no customer {request.customer}", field="customer_id")
            priced.append((entry, items))
    _store(session, priced)


@contextmanager
def _refusal_of(entry: _PlaceRequest) -> Iterator[None]:
    """Make a RequestError in the block the outcome of this request: the others are placed all the same."""
    try:
        yield
    except RequestError as refusal:
        entry.error = refusal


def _known(session: Session, requests: Sequence[NewOrder]) -> tuple[dict[str, Row[Any]], set[str]]:
    """Return the books (by id) and the customer ids of these requests that exist, in one statement."""
    wanted = {
        "books": list({item.book_id for request in requests for item in request.items}),
        "customers": list({request.customer for request in requests}),
    }
    books, customers = {}, set()
    for row in session.connection().execute(_KNOWN, wanted):
        if row.kind == "book":
            books[row.id] = row
        else:
            customers.add(row.id)
    return books, customers


# Built once, because every order executes it. Customers get the lock that their foreign key would take, so that the
# INSERT cannot fail: PostgreSQL logs a failed statement with its values, among them the address.
_BOOK = table_of(Book).columns
_CUSTOMER = table_of(Customer).columns
_LOCKED_CUSTOMERS = (
    select(_CUSTOMER.id)
    .where(_CUSTOMER.id.in_(bindparam("customers", expanding=True)))
    .with_for_update(read=True, key_share=True)
    .subquery("held")
)
_KNOWN = union_all(
    select(literal_column("'book'").label("kind"), _BOOK.book_id.label("id"), _BOOK.title, _BOOK.price).where(
        _BOOK.book_id.in_(bindparam("books", expanding=True))
    ),
    select(literal_column("'customer'"), _LOCKED_CUSTOMERS.c.id, null(), null()),
)


def _items(request: NewOrder, books: Mapping[str, Row[Any]]) -> list[OrderItem]:
    items = []
    for line, item in enumerate(request.items, start=1):
        book = books.get(item.book_id)
        if book is None:
            raise Invalid(f"there is no book {item.book_id}", field=f"items.{line - 1}.book_id")
        if item.unit_price is not None and item.unit_price != book.price:
            raise _price_mismatch(f"the price of {book.id}", item.unit_price, book.price, f"items.{line - 1}.price")
        items.append(
            OrderItem(line=line, book_id=book.id, title=book.title, quantity=item.quantity, unit_price=book.price)
        )
    total = sum((item.unit_price * item.quantity for item in items), Decimal(0))
    if request.amount is not None and request.amount != total:
        raise _price_mismatch("the amount", request.amount, total, "amount")
    if total >= Decimal(10) ** 10:
        raise Invalid("the total is more than an order may cost (9,999,999,999.99)", field="items")
    return items


def _price_mismatch(what: str, requested: Decimal, actual: Decimal, field: str) -> PriceMismatch:
    return PriceMismatch(
        f"{what} is {number(actual)}, not {number(requested)}",
        field=field,
        requested=number(requested),
        actual=number(actual),
    )


def _store(session: Session, priced: Sequence[tuple[_PlaceRequest, list[OrderItem]]]) -> None:
    """Store orders and their sagas."""
    if not priced:
        return
    stored, key_rows = [], []
    for entry, items in priced:
        request = entry.payload.request
        order = orders.new_order(
            request.order_id or new_id(),
            request.customer,
            items,
            request.payment_method or PaymentMethod.CREDIT_CARD,
            request.shipping_address or DEFAULT_ADDRESS,
        )
        stored.append((entry, order))
        key_rows += _key_rows(entry.payload.keys, request, order.id)
    orders.place(session, [order for _, order in stored], key_rows)
    with sagas.start_together(session):
        for entry, order in stored:
            saga = entry.run(session, _start, session, entry.payload.request, order)
            entry.value = PlacedOrder(order.id, saga.id, replayed=False)


def _start(session: Session, request: NewOrder, order: Order) -> SagaInstance:
    """Start the saga of a stored order."""
    payload: dict[str, Any] = orders.order_payload(order)
    if request.simulate:
        payload["simulate"] = dict(request.simulate)
    if request.pattern is Pattern.CHOREOGRAPHY:
        return ORDER_CHOREOGRAPHY.start(session, orders.create_order, order.id, payload, ORDER_CREATED)
    return SAGAS[request.saga_type or ORDER.name].start(session, order.id, payload)


_group_commit = GroupCommit(_place_all)
