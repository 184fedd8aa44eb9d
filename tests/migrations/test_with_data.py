"""Every migration goes down and up again beside the data of a shop, and loses nothing that both schemas can hold."""

from alembic import command
from sqlalchemy import text
from sqlalchemy.engine import Engine

from app.migrations import config, losses, migrate, status, step_back
from tests.migrations.rows import Rows, rows, schema
from tests.testkit.orders import eager
from workflows.operations.audit import audit
from workflows.orders import place
from workflows.scenarios import SAGA_TYPES, SCENARIOS

FIRST = "0001"


def as_far_as(known: Rows, all_rows: Rows) -> Rows:
    """Return of these rows only the tables and columns that are known."""
    columns = {name: list(table[0]) if table else [] for name, table in known.items()}
    return {name: [{column: row[column] for column in columns[name]} for row in all_rows[name]] for name in known}


def test_each_goes_down_and_up_again_with_the_data_of_a_shop(filled: str, engine: Engine) -> None:
    with engine.connect() as connection:
        # that somebody did something by hand is lost on the way down; the audit then asks the gateways' books
        by_hand = (
            "SELECT DISTINCT order_id FROM saga_instances JOIN saga_steps ON saga_id = id WHERE done_by IS NOT NULL"
        )
        believed = {("cancelled orders are undone", order_id) for order_id in connection.scalars(text(by_hand))}
    above = rows(engine, schema(engine))
    assert all(above.values()), "a table without a row shows nothing"
    passed = []
    while status(filled).current != FIRST:
        passed.append(step_back(filled))
        known, below = schema(engine), rows(engine, schema(engine))
        assert below == as_far_as(below, above), f"{passed[-1]} down"
        above = below
    for revision in reversed(passed):
        command.upgrade(config(filled), revision)
        assert rows(engine, known) == above, f"{revision} up again"
    assert not status(filled).pending

    with eager(filled):
        assert {(violation.check, violation.subject) for violation in audit()} == believed
        for saga_type in SAGA_TYPES:
            for scenario in SCENARIOS[:4]:
                place(scenario.order(saga_type))
        assert {(violation.check, violation.subject) for violation in audit()} == believed


def test_what_was_pruned_still_adds_up_in_the_schema_that_cannot_say_so(filled: str, engine: Engine) -> None:
    book = "SELECT received_stock - available_stock - reserved_stock FROM inventory WHERE book_id = 'item-001'"
    with engine.begin() as connection:
        before = connection.scalar(text(book))
        carried = (
            "UPDATE inventory SET received_stock = received_stock + 7, pruned_stock = 7 WHERE book_id = 'item-001'"
        )
        connection.execute(text(carried))

    command.downgrade(config(filled), "0007")

    with engine.connect() as connection:
        assert connection.scalar(text(book)) == before
    migrate(filled)
    with eager(filled):
        assert list(audit()) == []


def test_all_events_get_a_created_at_also_after_an_attempt_that_was_broken_off(filled: str, engine: Engine) -> None:
    command.downgrade(config(filled), "0009")
    many = """
        INSERT INTO events (id, event_type, aggregate_id, sequence, payload, timestamp)
        SELECT gen_random_uuid(), 'OrderCreated', 'order-' || n, 1, '{}', '2026-01-01'::timestamptz + n * interval '1s'
        FROM generate_series(1, 25000) n"""
    with engine.begin() as connection:
        connection.execute(text(many))
        connection.execute(text("ALTER TABLE events ADD COLUMN created_at timestamptz"))
        connection.execute(
            text("UPDATE events SET created_at = timestamp WHERE id < '80000000-0000-0000-0000-000000000000'")
        )

    migrate(filled)

    with engine.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM events WHERE created_at IS DISTINCT FROM timestamp")) == 0
        connection.execute(text(many.replace("'order-'", "'later-'").replace("25000", "1")))  # code before this one
        written = "SELECT created_at BETWEEN now() AND clock_timestamp() FROM events WHERE aggregate_id = 'later-1'"
        assert connection.scalar(text(written))


def test_what_a_revision_takes_with_it_is_counted(filled: str, engine: Engine) -> None:
    with engine.connect() as connection:
        acts = connection.scalar(text("SELECT count(*) FROM operator_acts"))
        by_hand = connection.scalar(text("SELECT count(*) FROM saga_steps WHERE done_by IS NOT NULL"))
    assert acts and by_hand

    said = dict(loss for revision in ("0005", "0002", "0003") for loss in losses(filled, revision))

    assert said.keys() - {"table installation", "column saga_steps.note"} == {
        "table operator_acts",
        "column saga_steps.done_by",
    }
    assert (said["table operator_acts"], said["column saga_steps.done_by"]) == (acts, by_hand)
