"""What a sweep, or a scrape, reads does not grow with the orders that are done: by the plans of what it executes."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import text

from app.runtime import Runtime
from app.sagas import sagas
from tests.databases.plans import (
    Executed,
    explain,
    leave_to_the_test,
    maintain,
    nodes,
    on_postgresql,
    on_sqlite,
    pages,
    sqlite_plan,
    steps_of_the_machine,
    wait_until_dead_to_all,
)
from tests.testkit.messages import Clock, Post
from workflows.operations.gauges import unfinished_sagas
from workflows.orders import Item, NewOrder, Pattern, place

FEW, MANY = 1_000, 50_000
DUE = 2
LITTLE = 250
"""Of pages: each earlier version of what is due costs some as long as any transaction of the server may see it."""
INDEXES = {"ix_saga_instances_wake_at", "ix_outbox_wake_at", "uq_events_aggregate_id_sequence"}
BY_INDEX = {"Index Scan", "Index Only Scan", "Bitmap Index Scan", "Bitmap Heap Scan"}
NODES = {"Limit", "LockRows", "ModifyTable", "Sort", "Unique", *BY_INDEX}

# every one was unfinished once, and its customer was to be told: the entries of that in the indexes that a sweep reads
# are dead, and on PostgreSQL still there
FINISH_SAGAS = """
    WITH RECURSIVE numbers(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n < {last})
    INSERT INTO saga_instances (id, saga_type, order_id, status, state, steps, payload, state_history, redrives,
                                wake_at, created_at, updated_at)
    SELECT {id}, 'order', 'order-' || n, 'running', 'STARTED', '[]', '{{}}', '[]', 0,
           '2001-01-01 00:00:00', '2001-01-01 00:00:00', '2001-01-01 00:00:00'
    FROM numbers;
    UPDATE saga_instances SET status = 'completed', state = 'COMPLETED', wake_at = NULL WHERE order_id LIKE 'order-%';
    INSERT INTO events (id, event_type, aggregate_id, sequence, payload, timestamp)
    SELECT id, 'OrderCompleted', order_id, 1, '{{}}', created_at FROM saga_instances
    WHERE order_id LIKE 'order-%' AND id NOT IN (SELECT id FROM events);
    INSERT INTO saga_steps (saga_id, step, operation, status, attempts, earlier_attempts, failures, started_at)
    SELECT id, 'complete_order', 'action', 'completed', 1, 0, '[]', timestamp FROM events
    WHERE event_type = 'OrderCompleted' AND id NOT IN (SELECT saga_id FROM saga_steps);
    INSERT INTO outbox (event_id, subscriber, saga_id, wake_at, resent)
    SELECT id, 'notifications.told', id, timestamp, 0 FROM events WHERE event_type = 'OrderCompleted';
    DELETE FROM outbox WHERE subscriber = 'notifications.told'"""

THIS_TRANSACTION = "SELECT pg_current_xact_id()::text::bigint"

IDS = {
    "sqlite": "printf('00000000-0000-7000-8000-%012x', n)",
    "postgresql": "('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid",
}


@pytest.fixture
def due(here: Runtime, post: Post, clock: Clock) -> None:
    """One saga of each kind, whose messages were lost, and one customer who has not been told."""
    for pattern in Pattern:
        order = place(NewOrder((Item("item-001", 1),), pattern))
    waiting = (
        "INSERT INTO outbox SELECT id, 'notifications.tell', id, timestamp, 0 FROM events WHERE aggregate_id = :id"
    )
    with here.database.transaction() as session:
        session.execute(text(waiting), {"id": order.order_id})


def finish_sagas(here: Runtime, first: int, last: int) -> None:
    """Store sagas that are done; on PostgreSQL, return once what they were before is dead to every snapshot."""
    dialect = here.database.engine.dialect.name
    script = FINISH_SAGAS.format(first=first, last=last, id=IDS[dialect])
    with here.database.transaction() as session:
        for statement in script.split(";"):
            session.execute(text(statement))
        transaction = session.scalar(text(THIS_TRANSACTION)) if dialect == "postgresql" else None
    if transaction is not None:
        wait_until_dead_to_all(here, transaction)


def scrape(executed: list[Executed]) -> list[Executed]:
    """Read the gauges; returns what that asked of the database."""
    executed.clear()
    assert sum(one.number for one in unfinished_sagas()) == len(Pattern)
    return [one for one in executed if one[0].startswith(("SELECT", "WITH"))]


def sweep_with_something_due(here: Runtime, clock: Clock, executed: list[Executed]) -> list[Executed]:
    """Sweep and leave everything as due as it was; returns what the sweep asked of the database."""
    executed.clear()
    swept = sagas.sweep()
    of_orders = [one for one in executed if not re.search("sweeps|pg_stat|queue_progress", one[0])]
    statements = [one for one in of_orders if one[0].startswith(("SELECT", "UPDATE"))]
    assert (swept.driven, swept.resent) == (DUE, 1)
    with here.database.transaction() as session:
        for table, count in (("saga_instances", "redrives"), ("outbox", "resent")):
            again = text(f"UPDATE {table} SET wake_at = :due, {count} = 0 WHERE wake_at IS NOT NULL")
            session.execute(again, {"due": f"{clock() - timedelta(minutes=1):%Y-%m-%d %H:%M:%S.%f}"})
    return statements


@on_postgresql
@pytest.mark.usefixtures("due")
def test_on_postgresql_a_sweep_reads_as_little_beside_many_finished_sagas_as_beside_few(
    here: Runtime, clock: Clock, executed: list[Executed]
) -> None:
    clock.forward(60)
    leave_to_the_test(here, "saga_instances", "saga_steps", "events", "outbox")
    for first, last in ((1, FEW), (FEW + 1, MANY)):
        finish_sagas(here, first, last)
        maintain(here, "ANALYZE")
        sweep_with_something_due(here, clock, executed)  # it walks over the dead entries, and marks them for the others
        plans = [explain(here, one) for one in sweep_with_something_due(here, clock, executed)]
        used = [node for plan in plans for node in nodes(plan)]
        indexes = {node["Index Name"] for node in used if "Index Name" in node}
        assert indexes >= INDEXES
        assert {node["Node Type"] for node in used} <= NODES
        assert max(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in used) <= DUE
        assert sum(map(pages, plans)) < LITTLE + last / 4  # what is dead is passed over: it costs no page of its own
        maintain(here, "VACUUM ANALYZE")
        plans = [explain(here, one) for one in sweep_with_something_due(here, clock, executed)]
        assert sum(map(pages, plans)) < LITTLE
        plans = [explain(here, one) for one in scrape(executed)]
        assert "Seq Scan" not in {node["Node Type"] for plan in plans for node in nodes(plan)}
        assert sum(map(pages, plans)) < LITTLE


@on_sqlite
@pytest.mark.usefixtures("due")
def test_on_sqlite_a_sweep_does_as_little_beside_many_finished_sagas_as_beside_few(
    here: Runtime, clock: Clock, executed: list[Executed]
) -> None:
    clock.forward(60)
    done = {}
    for first, last in ((1, FEW), (FEW + 1, MANY)):
        finish_sagas(here, first, last)
        statements = sweep_with_something_due(here, clock, executed)
        plans = [sqlite_plan(here, one) for one in statements]
        assert not [plan for plan in plans if "SCAN" in plan]
        assert [plan for plan in plans if "ix_saga_instances_wake_at" in plan]
        of_the_scrape = scrape(executed)
        done[last] = [sum(steps_of_the_machine(here, one) for one in each) for each in (statements, of_the_scrape)]

    assert done[MANY] == done[FEW]
