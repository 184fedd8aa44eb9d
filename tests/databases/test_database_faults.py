"""Whatever is asked of the database fails once, at every point, in every way: and yet nothing is lost, done twice or
half done, and no healthy order is undone.
"""

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import create_engine, func, select

from app.celery import app as celery
from app.database import Database
from app.errors import DatabaseUnavailable
from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas.definition import ACTIVE, SagaStatus
from durable_sagas.ids import new_id
from durable_sagas.models import SagaInstance, SagaStep
from durable_sagas.outages import RECOVERY, note_time
from tasks.orders import Order
from tests.databases.breaker import Breaker, Fail, lost, sqlite_error, sqlstate, terminated
from tests.databases.plans import on_postgresql, on_sqlite
from tests.testkit.messages import ERROR_CALLBACK, Clock, Post
from tests.testkit.servers import POSTGRESQL
from workflows.operations.audit import audit

SQLITE_FAULTS: list[Fail] = [
    sqlite_error(sqlite3.OperationalError, 5, "database is locked"),
    sqlite_error(sqlite3.OperationalError, 10, "disk I/O error"),
    sqlite_error(sqlite3.OperationalError, 13, "database or disk is full"),
    sqlite_error(sqlite3.OperationalError, 8, "attempt to write a readonly database"),
    sqlite_error(sqlite3.OperationalError, 14, "unable to open database file"),
    sqlite_error(sqlite3.DatabaseError, 11, "database disk image is malformed"),
]
SQLSTATES = ["40001", "40P01", "53100", "53300", "57P01", "57P03", "57014", "55P03", "25006", "58030", "XX000"]
POSTGRESQL_FAULTS: list[Fail] = [*map(sqlstate, SQLSTATES), lost]


class Shop:
    """A shop whose clients, workers and scheduler do about a fault of the database what they are to do: ask again.

    One request, one delivery of a message with its retries, and one sweep with the next are a turn of the breaker.
    """

    def __init__(self, here: Runtime, client: FlaskClient, post: Post, clock: Clock) -> None:
        self.here, self.client, self.post, self.clock = here, client, post, clock
        self.breaker = Breaker(0, lost)
        self.has_swept = False
        self.observed = Database(here.settings.database_url)
        """A way to look that nothing breaks."""

    def place(self, saga_type: str, book: str) -> str:
        """Place an order; returns its saga's id."""
        self.has_swept = False
        body = {"items": [{"product_id": book, "quantity": 1}], "saga_type": saga_type}
        return str(self.ask("/api/v1/orders", body, {"Idempotency-Key": new_id()})["saga_id"])

    def ask(self, path: str, body: object = None, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Send a request, and again if the database did not answer it, which is the only thing that may go wrong."""
        self.breaker.begin()
        answer = self.client.post(path, json=body, headers=headers)
        if answer.status_code == 503:
            assert answer.mimetype == "application/problem+json"
            answer = self.client.post(path, json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        return dict(answer.get_json())

    def settle(self, saga_id: str) -> str:
        """Deliver every message, as workers do, and sweep, until the saga has ended."""
        for _ in range(12):
            while self.post.waiting:
                message = self.post.waiting.pop(0)
                self.breaker.begin()
                if message.apply().failed() and message.task != ERROR_CALLBACK:
                    kwargs = {"saga_id": message.kwargs["saga_id"]}
                    self.post.waiting.append(celery.signature(ERROR_CALLBACK, kwargs=kwargs, immutable=True))
            if self.saga(saga_id).status not in ACTIVE:
                return saga_id
            self.clock.forward(40)
            self.sweep()
        raise AssertionError(f"{saga_id} has not ended")

    def sweep(self) -> None:
        """Sweep as the scheduler does: a sweep that fails is followed by another. Only the first of a life breaks."""
        (self.breaker.rest if self.has_swept else self.breaker.begin)()
        self.has_swept = True
        with self.observed.transaction() as session:
            # another scheduler swept while the clock went on: an interval without a sweep would be an outage
            note_time(session, RECOVERY, self.here.now())
        try:
            sagas.sweep()
        except DatabaseUnavailable:
            sagas.sweep()

    def saga(self, saga_id: str) -> SagaInstance:
        with self.observed.reading() as session:
            return session.get_one(SagaInstance, saga_id)

    def failures(self, saga_id: str) -> list[str]:
        """Return every failed attempt that the log counts against a step of a saga, but for those of gateways.

        A gateway stands for somebody else, whose database is not ours.
        """
        with self.observed.reading() as session:
            rows = session.scalars(select(SagaStep).where(SagaStep.saga_id == saga_id))
            errors = [failure["error"] for row in rows for failure in row.failures]
        return [error for error in errors if not error.startswith("the gateway did not answer")]


@pytest.fixture
def shop(here: Runtime, client: FlaskClient, post: Post, clock: Clock) -> Iterator[Shop]:
    here.settings = here.settings.but(fault_injection=False)
    shop = Shop(here, client, post, clock)
    yield shop
    shop.observed.close()


Life = Callable[[Shop], str]
"""Something that happens to an order, from its request to its end; returns its saga's id."""


def order(saga_type: str, book: str) -> Life:
    return lambda shop: shop.settle(shop.place(saga_type, book))


def operated(act: str) -> Life:
    def live(shop: Shop) -> str:
        saga_id = shop.place("order", "item-001")
        if act == "resume":
            with shop.observed.transaction() as session:
                saga = session.get_one(SagaInstance, saga_id)
                sagas.engine.state_machine.mark_stuck(saga, shop.clock(), "for the test")
        shop.ask(f"/api/v1/sagas/{saga_id}/{act}")
        return shop.settle(saga_id)

    return live


def lost_its_messages(saga_type: str, wait: float) -> Life:
    def live(shop: Shop) -> str:
        saga_id = shop.place(saga_type, "item-001")
        shop.post.waiting.clear()
        shop.clock.forward(wait)
        return shop.settle(saga_id)

    return live


COMPLETED, COMPENSATED = SagaStatus.COMPLETED, SagaStatus.COMPENSATED
ORDERS: dict[str, tuple[Life, SagaStatus]] = {
    "orchestrated": (order("order", "item-001"), COMPLETED),
    "out of stock, payment first": (order("order-payment-first", "book-456"), COMPENSATED),
    "choreographed": (order("order-choreography", "item-001"), COMPLETED),
    "choreographed, out of stock": (order("order-choreography", "book-456"), COMPENSATED),
}
LIVES = ORDERS | {
    "cancelled": (operated("cancel"), COMPENSATED),
    "resumed": (operated("resume"), COMPLETED),
    "lost": (lost_its_messages("order", 0), COMPLETED),
    "overdue": (lost_its_messages("order-choreography", 4000), COMPENSATED),
}
"""What happens to an order, and how it must end."""


def break_everywhere(shop: Shop, name: str, faults: list[Fail], *, answer_lost: bool = False) -> int:
    """Live again and again: in the n-th life the n-th point of every turn breaks; the faults take turns, too.

    Every point has been broken once when nothing breaks any more; returns how many there were.
    """
    live, ends = LIVES[name]
    first = live(shop)
    assert shop.saga(first).status == ends
    ordinary = shop.failures(first)
    broken = 0
    for point in range(1, 100):
        shop.breaker = Breaker(point, faults[point % len(faults)], answer_lost=answer_lost)
        with shop.breaker.at_work(shop.here):
            saga_id = live(shop)
        assert shop.saga(saga_id).status == ends, (point, shop.breaker.broken, shop.saga(saga_id).failure_reason)
        assert shop.failures(saga_id) == ordinary, shop.breaker.broken
        if not shop.breaker.broken:
            with shop.observed.reading() as session:
                orders = session.scalar(select(func.count()).select_from(Order))
            assert orders == point + 1, "a request that was repeated made two orders"
            break
        broken += len(shop.breaker.broken)
    assert list(audit()) == []
    return broken


@on_postgresql
@pytest.mark.parametrize("life", LIVES)
def test_any_statement_or_commit_may_fail_once(shop: Shop, life: str) -> None:
    assert break_everywhere(shop, life, POSTGRESQL_FAULTS) > 40


@on_postgresql
@pytest.mark.parametrize("life", ORDERS)
def test_the_answer_to_any_commit_may_be_lost(shop: Shop, life: str) -> None:
    assert break_everywhere(shop, life, [lost], answer_lost=True) > 5


@on_sqlite
@pytest.mark.parametrize("life", ["orchestrated", "choreographed, out of stock"])
def test_sqlite_too_may_fail_once_anywhere(shop: Shop, life: str) -> None:
    assert break_everywhere(shop, life, SQLITE_FAULTS) > 50


@on_sqlite
def test_of_sqlite_too_the_answer_to_any_commit_may_be_lost(shop: Shop) -> None:
    assert break_everywhere(shop, "orchestrated", SQLITE_FAULTS, answer_lost=True) > 5


@on_postgresql
def test_the_server_may_end_any_connection_at_any_point(shop: Shop) -> None:
    server = create_engine(POSTGRESQL, isolation_level="AUTOCOMMIT")
    with server.connect() as administrator:
        assert break_everywhere(shop, "choreographed", [terminated(administrator)]) > 50
    server.dispose()
