"""The order on this project's engine, orchestrated. Also the Celery app of its workers."""

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
from durable_sagas.definition import Step

# they return no event: a step may, but nobody here listens, and the peers record none


@sagas.command("orders.bench_create")
def create(session: Session, order: Placed) -> None:
    """Store the order."""
    act_in(session, "create", order)


@sagas.command("orders.bench_cancel")
def cancel(session: Session, order: Placed) -> None:
    """Cancel the order."""
    undo_in(session, "create", order)


@sagas.command("inventory.bench_reserve", lock_shared_rows=lock_books)
def reserve(session: Session, order: Placed) -> None:
    """Reserve a copy."""
    act_in(session, "reserve", order)


@sagas.command("inventory.bench_release", lock_shared_rows=lock_books)
def release(session: Session, order: Placed) -> None:
    """Release the copy."""
    undo_in(session, "reserve", order)


@sagas.command("payments.bench_pay")
def pay(session: Session, order: Placed) -> None:
    """Take the money."""
    act_in(session, "pay", order)


@sagas.command("payments.bench_refund")
def refund(session: Session, order: Placed) -> None:
    """Give the money back."""
    undo_in(session, "pay", order)


@sagas.command("shipping.bench_ship")
def ship(session: Session, order: Placed) -> None:
    """Ship, or refuse to."""
    act_in(session, "ship", order)


ORDER = sagas.saga(
    "bench-order", Step(create, cancel), Step(reserve, release), Step(pay, refund), Step(ship, pivot=True)
)


class Driver:
    """Starts sagas as a web server of the shop does."""

    def __init__(self, ended: EndedOrders) -> None:
        self.ended = ended.count

    def start(self, order: Order) -> None:
        """Start one saga."""
        with runtime.current().database.transaction() as session:
            ORDER.start(session, order["order_id"], order)


@contextmanager
def open_driver(place: Place) -> Iterator[Driver]:
    """Connect."""
    with ended_orders(place) as ended:
        yield Driver(ended)
