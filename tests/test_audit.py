"""The audit finds what it is there to find: each invariant is broken once, and named."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app import runtime
from app.runtime import Runtime
from workflows.operations.audit import CHECKS, audit
from workflows.orders import Item, NewOrder, Pattern, place

BREAKS = {
    "completed orders are paid, shipped and handed over": "UPDATE shipments SET status = 'cancelled'",
    "cancelled orders are undone": "DELETE FROM payment_provider_ledger WHERE kind = 'refund'",
    "stock adds up": "UPDATE inventory SET available_stock = available_stock - 1 WHERE book_id = 'book-123'",
    "the provider moved no money twice": """
        INSERT INTO payment_provider_ledger
        SELECT 'again:' || idempotency_key, order_id, kind, amount, transaction_id
        FROM payment_provider_ledger WHERE kind = 'capture'""",
    "the carrier booked nothing twice": """
        INSERT INTO carrier_ledger SELECT 'again:' || idempotency_key, order_id, kind, tracking_number
        FROM carrier_ledger WHERE kind = 'book'""",
    "compensated sagas undid all they did": """
        DELETE FROM saga_steps WHERE step = 'reserve_stock' AND operation = 'compensation'""",
    "orchestrated sagas were undone in reverse": """
        UPDATE saga_steps SET finished_at = '1999-01-01' WHERE step = 'create_order' AND operation = 'compensation'""",
    "orders end with their sagas": "UPDATE orders SET status = 'pending' WHERE status = 'completed'",
    "nothing waits longer than the sweep allows": """
        UPDATE saga_instances SET status = 'running', wake_at = '1999-01-01' WHERE status = 'completed'""",
    "sagas are where they say they are": "UPDATE saga_instances SET status = 'running' WHERE status = 'completed'",
    "sagas end with their orders": """
        UPDATE saga_instances SET status = 'running'
        WHERE order_id IN (SELECT id FROM orders WHERE status = 'completed')""",
    "what customers are to be told is on its way": """
        INSERT INTO outbox (event_id, subscriber, saga_id, wake_at, resent)
        SELECT id, 'notifications.notify_customer', id, '1999-01-01', 0 FROM events""",
    "nothing happened twice": "UPDATE events SET event_type = 'StockReserved' WHERE event_type = 'PaymentCompleted'",
    "nothing belongs to an order that is not there": """
        INSERT INTO payment_provider_ledger
        SELECT 'late:' || idempotency_key, 'an order that was pruned', kind, amount, transaction_id
        FROM payment_provider_ledger WHERE kind = 'capture'""",
    "nothing belongs to a saga that is not there": """
        UPDATE saga_steps SET saga_id = '01900000-0000-7000-8000-000000000000'
        WHERE step = 'create_order' AND operation = 'compensation'""",
    "every order that ended says so": "DELETE FROM events",
    "events are numbered without a gap and tell the order's row": "DELETE FROM events WHERE sequence = 2",
}


@pytest.fixture(autouse=True)
def orders(here: Runtime) -> None:
    """One order that was completed, one that was undone."""
    for simulate in ((), (("shipping", "decline"),)):
        place(NewOrder((Item("book-123", 1),), Pattern.ORCHESTRATION, simulate=simulate))


def test_a_sound_database_passes_and_every_check_has_a_test() -> None:
    assert list(audit()) == []
    assert set(BREAKS) == set(CHECKS)


@pytest.mark.parametrize("check", BREAKS)
def test_each_violation_is_named(here: Runtime, check: str) -> None:
    if check == "sagas end with their orders":
        here.now = lambda: datetime.now(UTC) + timedelta(minutes=5)
    with runtime.current().database.transaction() as session:
        session.execute(text(BREAKS[check]))

    found = list(audit())

    assert check in {violation.check for violation in found}
    assert all(violation.subject for violation in found)


def test_a_saga_that_waits_its_turn_is_no_violation_however_long_ago_its_deadline_was(here: Runtime) -> None:
    waits = """
        UPDATE saga_instances SET status = 'running', state = 'STARTED', deadline_at = '1999-01-01',
            wake_at = '2999-01-01', queue = {queue} WHERE status = 'completed'"""
    for queue, found in (("'orders'", False), ("NULL", True)):
        with runtime.current().database.transaction() as session:
            session.execute(text(waits.format(queue=queue)))
        violated = {violation.check for violation in audit()}
        assert ("nothing waits longer than the sweep allows" in violated) is found
        with runtime.current().database.transaction() as session:
            session.execute(text("UPDATE saga_instances SET status = 'completed' WHERE status = 'running'"))


@pytest.mark.parametrize("changes", ["shipping_address = 'elsewhere'", "status = 'cancelled'"])
def test_a_row_that_its_events_do_not_tell_is_named(changes: str) -> None:
    with runtime.current().database.transaction() as session:
        session.execute(text(f"UPDATE orders SET {changes}"))

    assert "events are numbered without a gap and tell the order's row" in {violation.check for violation in audit()}
