"""What pruning takes out, and what it leaves: table by table, on each database."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Numeric, Table, select, text

from app.celery import app as celery
from app.database import UtcDateTime, all_tables
from app.errors import NotFound
from app.runtime import Runtime
from app.sagas import sagas
from app.settings import Settings
from durable_sagas.models import OutboxEntry
from tasks.orders import Order
from tasks.retention import Owner
from tests.testkit.messages import Clock, Post, run
from tests.testkit.servers import fresh_postgresql_database
from workflows.operations import retention
from workflows.operations.archive import Archive
from workflows.operations.audit import audit
from workflows.operations.retention import RETENTION, prune
from workflows.orders import Item, NewOrder, Pattern, place
from workflows.read_side import queries, versions

PRUNED = {rule.table.name for rule in RETENTION}
STAYS = {"customers", "categories", "inventory", "deliveries", "installation", "sweeps", "queue_progress"}
"""What belongs to no order: the shop's own."""

EMPTY_BY_THEN = {"outbox"}
"""What must be empty of an order before it is pruned."""

Rows = Mapping[str, list[dict[str, Any]]]
OLD = timedelta(days=90)


def everything(here: Runtime) -> Rows:
    with here.database.reading() as session:
        return {
            table.name: [dict(row) for row in session.execute(select(table).order_by(*table.primary_key)).mappings()]
            for table in all_tables().values()
        }


def about(rows: Rows, orders: set[str], sagas: set[str]) -> Rows:
    """Return of these rows those that belong to these orders or sagas."""
    owners = {part.table.name: (part.column, orders if part.owner is Owner.AGGREGATE else sagas) for part in RETENTION}
    return {
        name: [row for row in rows[name] if str(row[column]) in wanted] for name, (column, wanted) in owners.items()
    }


def ended(rows: Rows) -> tuple[set[str], set[str]]:
    """Return the orders and the sagas that have ended, and whose customers have been told."""
    waiting = {row["saga_id"] for row in rows["outbox"]}
    over = [row for row in rows["saga_instances"] if row["status"] in {"completed", "compensated"}]
    over = [row for row in over if row["id"] not in waiting]
    return {row["order_id"] for row in over}, {row["id"] for row in over}


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a shop in which everything has happened, and nothing is overdue."""
    patient = Settings(broker_url="memory://", fault_injection=True, stall_seconds=3600, step_timeout_seconds=3600)
    if getattr(request, "param", "sqlite") == "sqlite":
        shutil.copy(request.getfixturevalue("filled_sqlite"), tmp_path / "shop.db")
        yield patient.but(database_url=f"sqlite:///{tmp_path / 'shop.db'}")
        return
    with fresh_postgresql_database(request.getfixturevalue("filled_postgresql")) as url:
        yield patient.but(database_url=url)


on_both = pytest.mark.parametrize("settings", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def forward(clock: Clock) -> Clock:
    """91 days later."""
    clock.forward(timedelta(days=91).total_seconds())
    return clock


def violations() -> set[str]:
    # the clock went on, and no sweep looked at what is unfinished
    late = {"nothing waits longer than the sweep allows", "what customers are to be told is on its way"}
    return {violation.check for violation in audit()} - late


def prune_all(clock: Clock, archive: Archive | None = None, batch: int = 7) -> int:
    return sum(taken.sagas for taken in prune(clock() - OLD, archive=archive, batch=batch))


def test_every_table_either_goes_with_an_order_or_is_named_as_what_stays() -> None:
    assert set(all_tables()) == PRUNED | STAYS | EMPTY_BY_THEN
    assert not PRUNED & STAYS


def test_an_index_leads_from_an_order_to_all_that_goes_with_it() -> None:
    for part in RETENTION:
        keys = [list(part.table.primary_key.columns), *(list(index.columns) for index in part.table.indexes)]
        unique = [list(constraint.columns) for constraint in part.table.constraints if hasattr(constraint, "columns")]
        assert part.column in {columns[0].name for columns in [*keys, *unique] if columns}, part.table.name


@on_both
def test_what_ended_goes_and_nothing_else(here: Runtime, forward: Clock) -> None:
    newer = place(NewOrder((Item("item-001", 1),), Pattern.ORCHESTRATION))
    before = everything(here)
    orders, sagas = ended(before)
    orders, sagas = orders - {newer.order_id}, sagas - {newer.saga_id}
    gone = about(before, orders, sagas)
    assert all(gone.values()), "a table without a row shows nothing"
    assert "stuck" in {row["status"] for row in before["saga_instances"]}

    taken = list(prune(forward() - OLD, batch=3))

    after = everything(here)
    assert sum(batch.sagas for batch in taken) == len(orders)
    assert max(batch.sagas for batch in taken) == 3
    assert sum(batch.rows for batch in taken) == sum(map(len, gone.values()))
    for name in PRUNED | EMPTY_BY_THEN | STAYS - {"inventory"}:
        assert after[name] == [row for row in before[name] if row not in gone.get(name, [])], name
    shipped: Counter[str] = Counter()
    for row in gone["stock_reservations"]:
        shipped[row["book_id"]] += row["quantity"] if row["status"] == "shipped" else 0
    assert shipped.total() > 10
    carried = [{**row, "pruned_stock": shipped[row["book_id"]]} for row in before["inventory"]]
    assert after["inventory"] == carried
    assert violations() == set()
    assert list(prune(forward() - OLD)) == []

    with here.database.transaction() as session:  # what is wrong is still found
        session.execute(text("UPDATE inventory SET pruned_stock = pruned_stock + 1 WHERE book_id = 'item-001'"))
        late = "INSERT INTO payment_provider_ledger VALUES ('late', 'pruned before', 'capture', 500, 'txn-late')"
        session.execute(text(late))
    assert violations() == {"stock adds up", "nothing belongs to an order that is not there"}


def test_what_ended_lately_stays_and_counting_takes_nothing(here: Runtime, forward: Clock) -> None:
    before = everything(here)

    assert list(prune(forward() - timedelta(days=92))) == []
    assert retention.count(forward() - OLD) == len(ended(before)[0])

    assert everything(here) == before


def test_one_whose_customer_was_not_told_stays_until_it_is(here: Runtime, forward: Clock) -> None:
    prune_all(forward)
    for row in everything(here)["saga_instances"]:
        if row["status"] in {"pending", "running"}:
            sagas.cancel(row["id"])
    assert prune_all(forward) == 0

    with here.database.reading() as session:
        entry = session.scalars(select(OutboxEntry)).first()
    assert entry
    celery.tasks[entry.subscriber].apply(kwargs={"saga_id": entry.saga_id, "event_id": entry.event_id})

    assert prune_all(forward) == 1


def test_what_was_pruned_is_known_no_more_and_no_late_message_does_anything(
    here: Runtime, post: Post, clock: Clock, client: FlaskClient
) -> None:
    mine = NewOrder((Item("item-001", 1),), Pattern.ORCHESTRATION, order_id="order-of-mine")
    first = place(mine, idempotency_key="key")
    placed = [first, *(place(NewOrder((Item("item-001", 1),), pattern)) for pattern in Pattern)]
    for undone in placed[1:]:
        sagas.cancel(undone.saga_id)
    placed.append(place(NewOrder((Item("item-001", 1),), Pattern.CHOREOGRAPHY)))
    delivered = []
    while post.waiting:
        delivered.append(post.waiting.pop(0))
        run(delivered[-1])
    with here.database.reading() as session:
        listed = list(session.scalars(select(Order)))
    clock.forward(timedelta(days=91).total_seconds())
    prune_all(clock)
    before = everything(here)
    assert not {row["id"] for row in before["saga_instances"]} & {order.saga_id for order in placed}

    for message in delivered:
        run(message)

    assert len(delivered) > 25
    assert everything(here) == before
    with here.database.reading() as session:  # an order that goes while a list is read is left out
        left = queries.with_related(session, listed)
    assert {view.order.id for view in left} == {row["id"] for row in before["orders"]}
    with pytest.raises(NotFound):
        versions.version(first.saga_id)
    saga, order = f"sagas/{first.saga_id}", f"orders/{first.order_id}"
    for path in (saga, f"{saga}/live", f"api/v1/{saga}", f"api/v1/{saga}/history", f"api/v1/{order}"):
        assert client.get(f"/{path}").status_code == 404, path
    again = place(mine, idempotency_key="key")
    assert not again.replayed
    assert again.saga_id != first.saga_id
    assert violations() == set()


@on_both
def test_the_archive_has_everything_exactly(here: Runtime, forward: Clock, tmp_path: Path) -> None:
    before = everything(here)
    orders, sagas = ended(before)
    gone = about(before, orders, sagas)

    with Archive(tmp_path / "orders.jsonl") as archive:
        prune_all(forward, archive)

    lines = [json.loads(line) for line in (tmp_path / "orders.jsonl").read_text().splitlines()]
    assert [line["saga_id"] for line in lines] == list(dict.fromkeys(line["saga_id"] for line in lines))
    assert {line["order_id"] for line in lines} == orders
    archived = {name: [row for line in lines for row in line["rows"][name]] for name in gone}
    for name, rows in gone.items():
        table = all_tables()[name]
        read = [_as_stored(table, row) for row in archived[name]]
        assert sorted(read, key=repr) == sorted(rows, key=repr), name
    first = next(line for line in lines if line["status"] == "completed")
    assert first["rows"]["orders"][0]["total_amount"].count(".") == 1
    assert datetime.fromisoformat(first["ended_at"]).tzinfo is not None
    assert (tmp_path / "orders.jsonl").stat().st_mode & 0o777 == 0o600


def _as_stored(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    kinds: dict[type, Any] = {UtcDateTime: datetime.fromisoformat, Numeric: Decimal}
    read = {column.name: kinds.get(type(column.type), lambda value: value) for column in table.columns}
    return {name: None if value is None else read[name](value) for name, value in row.items()}
