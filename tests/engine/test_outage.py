"""While the broker is away no deadline passes: what waited for it continues as soon as it is back."""

from contextlib import AbstractContextManager

import pytest
from sqlalchemy.orm import Session

from app.celery import app as celery
from app.database import Database
from app.errors import DatabaseUnavailable
from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas.outages import suspend_deadline
from tests.testkit import stored
from tests.testkit.messages import ERROR_CALLBACK, Clock, Post
from tests.testkit.orders import order
from workflows.operations.audit import audit
from workflows.orders import Pattern, PlacedOrder

TIMEOUT = {Pattern.ORCHESTRATION: 1, Pattern.CHOREOGRAPHY: 2}
"""A step's deadline, and a choreographed order's, in these tests' settings."""

both = pytest.mark.parametrize("pattern", Pattern)


def seconds_left(placed: PlacedOrder, clock: Clock) -> float | None:
    deadline = stored.saga(placed.saga_id).deadline_at
    return (deadline - clock()).total_seconds() if deadline else None


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
    assert seconds_left(placed, clock) == TIMEOUT[pattern]
    post.deliver_all()

    assert stored.saga(placed.saga_id).status == "completed"
    assert list(audit()) == []


@both
def test_a_message_that_was_sent_has_a_deadline_at_once(post: Post, clock: Clock, pattern: Pattern) -> None:
    assert seconds_left(order(pattern), clock) == TIMEOUT[pattern]


@both
def test_the_deadline_that_begins_late_is_a_deadline(post: Post, clock: Clock, pattern: Pattern) -> None:
    post.away = True
    placed = order(pattern)
    post.away = False
    assert sagas.sweep().driven == 1  # the next one, at once
    post.waiting.clear()  # and nobody ever took it

    clock.forward(TIMEOUT[pattern])
    assert sagas.sweep().timed_out == 1
    post.deliver_all()

    assert stored.saga(placed.saga_id).status == "compensated"
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

    assert stored.saga(placed.saga_id).status == "compensated"
    assert list(audit()) == []


def test_a_database_that_is_away_too_leaves_the_deadline_as_it_was(
    here: Runtime, post: Post, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = order(Pattern.ORCHESTRATION)
    with monkeypatch.context() as broken:
        broken.setattr(sagas.engine, "database", Database("postgresql+psycopg2://127.0.0.1:1/nobody-listens-here"))
        suspend_deadline(sagas.engine, placed.saga_id)

    assert seconds_left(placed, clock) == 1


def test_an_error_callback_that_meets_no_database_is_delivered_again(
    post: Post, here: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = order(Pattern.ORCHESTRATION, inventory="decline")
    post.deliver("orders.create_order", "inventory.reserve_stock")
    transaction = here.database.transaction
    lost: list[str] = []

    def fail_once() -> AbstractContextManager[Session]:
        if lost:
            return transaction()
        lost.append("the first")
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(here.database, "transaction", fail_once)

    celery.tasks[ERROR_CALLBACK].apply(kwargs={"saga_id": placed.saga_id})

    assert stored.saga(placed.saga_id).status == "compensating"
