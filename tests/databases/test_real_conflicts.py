"""Two that want the same on PostgreSQL: the one whom it sends away asks again, and nobody's order is undone for it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, event, text

from app.runtime import Runtime
from durable_sagas.models import SagaInstance, SagaStep
from tests.testkit.messages import Post, run
from workflows.operations.audit import audit
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place

pytestmark = pytest.mark.parametrize("settings", ["postgresql"], indirect=True)


@pytest.fixture
def placed(post: Post) -> PlacedOrder:
    """An order whose stock is to be reserved next."""
    placed = place(NewOrder((Item("item-001", 1),), Pattern.ORCHESTRATION))
    post.deliver("orders.create_order")
    return placed


@contextmanager
def reserving_beside(here: Runtime, post: Post) -> Iterator[Connection]:
    """Have the order's stock reserved while somebody else, who is yielded, holds the book's row."""
    reserve = threading.Thread(target=run, args=[post.take("inventory.reserve_stock")])
    with here.database.engine.connect() as other:
        other.execute(text("SET LOCAL deadlock_timeout = '60s'"))  # not this one is sent away
        other.execute(text("UPDATE inventory SET title = title WHERE book_id = 'item-001'"))
        reserve.start()
        wait_for_a_lock(here, 1)
        yield other
    reserve.join(60)
    assert not reserve.is_alive()


def wait_for_a_lock(here: Runtime, waiters: int) -> None:
    """Wait until so many transactions wait for a lock."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    give_up = time.monotonic() + 60
    with here.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while connection.scalar(query) != waiters:
            assert time.monotonic() < give_up
            time.sleep(0.01)


def assert_reserved_at_the_first_attempt_that_counts(here: Runtime, post: Post, placed: PlacedOrder) -> None:
    with here.database.reading() as session:
        row = session.get_one(SagaStep, (placed.saga_id, "reserve_stock", "action"))
        assert (row.status, row.attempts, row.failures) == ("completed", 1, [])
    post.deliver_all()
    with here.database.reading() as session:
        assert session.get_one(SagaInstance, placed.saga_id).status == "completed"
    assert list(audit()) == []


def test_a_serialization_failure_is_tried_again(
    here: Runtime, post: Post, placed: PlacedOrder, caplog: pytest.LogCaptureFixture
) -> None:
    here.database.close()
    event.listen(here.database.engine, "connect", lambda driver, _: driver.set_session("REPEATABLE READ"))

    with reserving_beside(here, post) as other:
        other.commit()

    assert "could not serialize access" in reasons(caplog)
    assert_reserved_at_the_first_attempt_that_counts(here, post, placed)


def test_a_deadlock_is_tried_again(
    here: Runtime, post: Post, placed: PlacedOrder, caplog: pytest.LogCaptureFixture
) -> None:
    with reserving_beside(here, post) as other:
        other.execute(text("SELECT 1 FROM saga_instances WHERE id = :id FOR UPDATE"), {"id": placed.saga_id})
        other.commit()

    assert "deadlock detected" in reasons(caplog)
    assert_reserved_at_the_first_attempt_that_counts(here, post, placed)


def reasons(caplog: pytest.LogCaptureFixture) -> str:
    """Return why something was tried again, as far as the log tells."""
    return " ".join(str(vars(record).get("reason")) for record in caplog.records)
