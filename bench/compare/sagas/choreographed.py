"""The order on this project's engine, choreographed: each service reacts to the one before it, and back again.

Also the Celery app of its workers.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from app import runtime
from app.celery import app as app
from app.sagas import sagas
from bench.compare.ledger import EndedOrders
from bench.compare.place import Place
from bench.compare.sagas.common import ended_orders
from bench.compare.sagas.engine import Placed, act_in, lock_books, undo_in
from bench.compare.work import Order
from durable_sagas.definition import COMPENSATION_STARTED, COMPLETED, FAILED
from durable_sagas.history import History
from durable_sagas.messages import Event, EventType
from durable_sagas.reactions import Abort, Compensate, Decision, Execute

# names of its own: the shop's services listen to theirs in the same process
Created, Cancelled = EventType("BenchOrderCreated"), EventType("BenchOrderCancelled")
Reserved, Unavailable, Released = (
    EventType("BenchStockReserved"),
    EventType("BenchStockUnavailable"),
    EventType("BenchStockReleased"),
)
Paid, Refunded = EventType("BenchPaymentCompleted"), EventType("BenchPaymentRefunded")
Shipped, NotShipped = EventType("BenchShipped"), EventType("BenchNotShipped")
TimedOut, CancelRequested = EventType("BenchOrderTimedOut"), EventType("BenchOrderCancelRequested")


@sagas.command("orders.bench_open")
def create(session: Session, order: Placed) -> Event:
    """Store the order."""
    act_in(session, "create", order)
    return Event(Created)


@sagas.command("orders.bench_close")
def cancel(session: Session, order: Placed) -> Event:
    """Cancel the order."""
    undo_in(session, "create", order)
    return Event(Cancelled)


def unavailable(_session: Session, _order: Placed, reason: str) -> Event:
    """Say that there is no copy."""
    return Event(Unavailable, {"reason": reason})


@sagas.command("inventory.bench_take", on_rejected=unavailable, lock_shared_rows=lock_books)
def reserve(session: Session, order: Placed) -> Event:
    """Reserve a copy."""
    act_in(session, "reserve", order)
    return Event(Reserved)


@sagas.command("inventory.bench_put_back", lock_shared_rows=lock_books)
def release(session: Session, order: Placed) -> Event:
    """Release the copy."""
    undo_in(session, "reserve", order)
    return Event(Released)


@sagas.command("payments.bench_charge")
def pay(session: Session, order: Placed) -> Event:
    """Take the money."""
    act_in(session, "pay", order)
    return Event(Paid)


@sagas.command("payments.bench_pay_back")
def refund(session: Session, order: Placed) -> Event:
    """Give the money back."""
    undo_in(session, "pay", order)
    return Event(Refunded)


def not_shipped(_session: Session, _order: Placed, reason: str) -> Event:
    """Say that the carrier refused."""
    return Event(NotShipped, {"reason": reason})


@sagas.command("shipping.bench_send", on_rejected=not_shipped)
def ship(session: Session, order: Placed) -> Event:
    """Ship, or refuse to."""
    act_in(session, "ship", order)
    return Event(Shipped)


ORDER = sagas.choreography(
    "bench-order-choreography", timed_out=TimedOut, cancel_requested=CancelRequested, point_of_no_return=Shipped
)


@ORDER.on(Created, queue="inventory")
def bench_reserve_on_created(_: History) -> Decision:
    """Reserved or Unavailable."""
    return Execute(reserve)


@ORDER.on(Reserved, queue="payments")
def bench_pay_on_reserved(_: History) -> Decision:
    """Paid."""
    return Execute(pay)


@ORDER.on(Paid, queue="shipping")
def bench_ship_on_paid(_: History) -> Decision:
    """Shipped or NotShipped."""
    return Execute(ship)


@ORDER.on(TimedOut, CancelRequested, queue="shipping")
def bench_settle_on_request(_: History) -> Decision:
    """Shipped, if it was, or NotShipped."""
    return Abort(ship, "too late, or no longer wanted")


@ORDER.on(NotShipped, queue="payments")
def bench_refund_on_not_shipped(_: History) -> Decision:
    """Refunded."""
    return Compensate(pay, refund, event_if_nothing_done=Refunded)


@ORDER.on(Refunded, queue="inventory")
def bench_release_on_refunded(_: History) -> Decision:
    """Released."""
    return Compensate(reserve, release, event_if_nothing_done=Released)


@ORDER.on(Released, Unavailable, queue="orders")
def bench_cancel_on_released(_: History) -> Decision:
    """Make it Cancelled."""
    return Compensate(create, cancel)


@ORDER.projection(Shipped, NotShipped, Unavailable, Cancelled)
def bench_milestone(order: History) -> str | None:
    """Say where the order stands."""
    if order.has(Cancelled):
        return FAILED
    if order.has(Shipped):
        return COMPLETED
    return COMPENSATION_STARTED if order.has_any(NotShipped, Unavailable) else None


class Driver:
    """Starts sagas as a web server of the shop does; their first step is done in that transaction."""

    def __init__(self, ended: EndedOrders) -> None:
        self.ended = ended.count

    def start(self, order: Order) -> None:
        """Start one saga."""
        with runtime.current().database.transaction() as session:
            ORDER.start(session, create, order["order_id"], order, "ORDER_CREATED")


@contextmanager
def open_driver(place: Place) -> Iterator[Driver]:
    """Connect."""
    with ended_orders(place) as ended:
        yield Driver(ended)
