"""The SQL of the seeds, to the letter, on both databases."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest
from sqlalchemy import Engine, create_engine, text

from tests.testkit.servers import fresh_postgresql_database

SAGA = "SELECT * FROM sagas WHERE id = 'saga-id';"
EVENTS = "SELECT * FROM events WHERE aggregate_id = 'order-id' ORDER BY created_at;"
"""Seed 000's; only the ids that its reader would fill in are changed."""

TABLES = """
orders (id, customer_id, status, total_amount, created_at, updated_at)
inventory (book_id, title, available_stock, reserved_stock, price)
payments (id, order_id, amount, payment_method, status, transaction_id)
shipments (id, order_id, shipping_address, tracking_number, status)
events (id, event_type, aggregate_id, payload, timestamp)
saga_instances (id, saga_type, status, current_step, payload, created_at)
"""
"""Seed 002's main tables."""


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A database in which orders of all kinds have ended."""
    database: AbstractContextManager[str]
    if request.param == "sqlite":
        database = nullcontext(f"sqlite:///{request.getfixturevalue('filled_sqlite')}")
    else:
        database = fresh_postgresql_database(request.getfixturevalue("filled_postgresql"))
    with database as url:
        engine = create_engine(url)
        yield engine
        engine.dispose()


def test_seed_000s_statements_run_as_they_are_written_and_find_a_saga_and_its_events_in_order(engine: Engine) -> None:
    with engine.connect() as connection:
        assert connection.execute(text(SAGA)).all() == []
        assert connection.execute(text(EVENTS)).all() == []
        undone = "SELECT CAST(id AS VARCHAR(36)), order_id FROM saga_instances WHERE status = 'compensated' LIMIT 1"
        saga_id, order_id = connection.execute(text(undone)).one()
        saga = connection.execute(text(SAGA.replace("saga-id", saga_id))).mappings().one()
        events = connection.execute(text(EVENTS.replace("order-id", order_id))).mappings().all()

    assert (saga["order_id"], saga["status"], saga["state"]) == (order_id, "compensated", "FAILED")
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["event_type"] == "OrderCancelled"
    assert all(event["created_at"] for event in events)


def test_seed_002s_tables_have_the_columns_that_it_names(engine: Engine) -> None:
    with engine.connect() as connection:
        for table in TABLES.strip().splitlines():
            name, columns = table.rstrip(")").split(" (")
            assert connection.execute(text(f"SELECT {columns} FROM {name} LIMIT 1")).one()
