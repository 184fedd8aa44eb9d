"""While the broker is away no deadline passes: what waited for it goes on as soon as it is back."""

from contextlib import AbstractContextManager
from datetime import datetime

import pytest
from sqlalchemy.orm import Session

from app import runtime
from app.celery import app as celery
from app.database import Database
from app.errors import DatabaseUnavailable
from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas.models import SagaInstance
from durable_sagas.outages import suspend_deadline
from tests.testkit.messages import ERROR_CALLBACK, Clock, Post
from workflows.operations.audit import audit
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place

TIMEOUT = {Pattern.ORCHESTRATION: 1, Pattern.CHOREOGRAPHY: 2}
"""A step's deadline, and a choreographed order's, in these tests' settings."""

both = pytest.mark.parametrize("pattern", Pattern)


def order(pattern: Pattern) -> PlacedOrder:
    return place(NewOrder((Item("book-789", 1),), pattern))


def saga(placed: PlacedOrder) -> SagaInstance:
    with runtime.current().database.reading() as session:
        return session.get_one(SagaInstance, placed.saga_id)


def seconds_left(placed: PlacedOrder, now: datetime) -> float | None:
    deadline = saga(placed).deadline_at
    return None if deadline is None else (deadline - now).total_seconds()


@both
def test_an_order_accepted_while_the_broker_is_away_outlives_its_deadline(
    post: Post, clock: Clock, pattern: Pattern
) -> None:
    post.away = True
    placed = order(pattern)
    for _ in range(30):  # half a minute without a broker, thirty times a step's deadline
        clock.forward(1)
        sagas.sweep()
    post.away = False

    clock.forward(60)
    assert sagas.sweep().driven == 1
    assert seconds_left(placed, clock()) == TIMEOUT[pattern]
    post.deliver_all()

    assert saga(placed).status == "completed"
    assert list(audit()) == []


@both
def test_the_next_sweep_sends_what_could_not_be_sent(post: Post, clock: Clock, pattern: Pattern) -> None:
    post.away = True
    order(pattern)
    post.away = False

    assert sagas.sweep().driven == 1
    assert post.waiting


@both
def test_a_message_that_was_sent_has_a_deadline_at_once(post: Post, clock: Clock, pattern: Pattern) -> None:
    placed = order(pattern)

    assert seconds_left(placed, clock()) == TIMEOUT[pattern]


@both
def test_the_deadline_that_begins_late_is_a_deadline(post: Post, clock: Clock, pattern: Pattern) -> None:
    post.away = True
    placed = order(pattern)
    post.away = False
    sagas.sweep()
    post.waiting.clear()  # and nobody ever took it

    clock.forward(TIMEOUT[pattern])
    assert sagas.sweep().timed_out == 1
    post.deliver_all()

    assert saga(placed).status == "compensated"
    assert list(audit()) == []


@both
def test_during_an_outage_the_sweep_does_not_try_every_time(post: Post, clock: Clock, pattern: Pattern) -> None:
    post.away = True
    order(pattern)

    tries = 0
    for _ in range(20):
        clock.forward(1)
        tries += sagas.sweep().driven
    assert 3 <= tries <= 6  # after 1, 2, 4, 8 … seconds


@both
def test_a_cancellation_that_could_not_be_sent_is_sent_by_the_sweep(post: Post, clock: Clock, pattern: Pattern) -> None:
    placed = order(pattern)
    post.waiting.clear()
    post.away = True
    sagas.cancel(placed.saga_id)
    post.away = False

    assert sagas.sweep().driven == 1
    post.deliver_all()

    assert saga(placed).status == "compensated"
    assert list(audit()) == []


def test_past_the_point_of_no_return_no_deadline_is_set_again(post: Post, clock: Clock) -> None:
    placed = order(Pattern.ORCHESTRATION)
    for task_name in ("orders.create_order", "inventory.reserve_stock", "payments.process_payment"):
        post.deliver(task_name)
    post.deliver("shipping.arrange_shipping")
    post.waiting.clear()

    clock.forward(1.1)
    sagas.sweep()
    assert saga(placed).deadline_at is None
    clock.forward(10)
    sagas.sweep()
    assert saga(placed).deadline_at is None


def test_a_database_that_is_away_too_leaves_the_deadline_as_it_was(
    here: Runtime, post: Post, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = order(Pattern.ORCHESTRATION)
    with monkeypatch.context() as broken:
        broken.setattr(sagas.engine, "database", Database("postgresql+psycopg2://127.0.0.1:1/nobody-listens-here"))
        suspend_deadline(sagas.engine, placed.saga_id)

    assert seconds_left(placed, clock()) == 1


def test_an_error_callback_that_meets_no_database_is_delivered_again(
    post: Post, here: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = place(NewOrder((Item("book-789", 1),), Pattern.ORCHESTRATION, simulate=(("inventory", "decline"),)))
    for task_name in ("orders.create_order", "inventory.reserve_stock"):
        post.deliver(task_name)
    monkeypatch.setattr(sagas.engine, "database", FailsOnce(here.database))

    celery.tasks[ERROR_CALLBACK].apply(kwargs={"saga_id": placed.saga_id})

    assert saga(placed).status == "compensating"


class FailsOnce:
    """A database whose first transaction is lost."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lost = False

    def transaction(self) -> AbstractContextManager[Session]:
        if self._lost:
            return self._database.transaction()
        self._lost = True
        raise DatabaseUnavailable("gone")

    def reading(self) -> AbstractContextManager[Session]:
        return self._database.reading()

    def now(self) -> datetime:
        return self._database.now()

    def close(self) -> None:
        self._database.close()
