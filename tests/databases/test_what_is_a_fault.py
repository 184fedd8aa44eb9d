"""What counts as a fault of the database, by errors that the databases themselves raise; and how it is lived with."""

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from app.celery import app as celery
from app.database import Database
from app.errors import DatabaseUnavailable, StepUnavailable
from app.runtime import Runtime
from app.sagas import sagas
from cli.embedded import embedded_stack
from durable_sagas.models import SagaInstance, SagaStep
from durable_sagas.recovery import SweepResult
from tasks.gateways.simulation import SimulatedGateway
from tests.databases.breaker import raising
from tests.databases.plans import on_postgresql, on_sqlite
from tests.testkit.messages import Post, run
from tests.testkit.processes import wait_for
from workflows.operations.audit import audit
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place

FAULTS = ["08006", "28P01", "40001", "40P01", "53100", "53200", "53300", "57014", "57P01", "57P03", "58030", "XX000"]
FAULTS += ["25006", "25P03", "55P03"]
OTHERS = ["22003", "23505", "23514", "42P01", "42601", "54000", "55006", "0A000", "25P02", "P0001"]


@on_postgresql
def test_postgresql_says_by_its_code_whether_it_is_at_fault(here: Runtime) -> None:
    for code in FAULTS:
        with pytest.raises(DatabaseUnavailable, match="broken by the test"), here.database.transaction() as session:
            session.connection().exec_driver_sql(raising(code))
    for code in OTHERS:
        with pytest.raises(DBAPIError, match="broken by the test"), here.database.transaction() as session:
            session.connection().exec_driver_sql(raising(code))


@on_postgresql
def test_only_a_statement_that_took_too_long_is_the_gateways_silence(here: Runtime) -> None:
    gateway = SimulatedGateway()
    for code in ("40001", "53300", "55P03", "25006"):
        with pytest.raises(DatabaseUnavailable), gateway.ledger_transaction() as session:
            session.connection().exec_driver_sql(raising(code))
    with pytest.raises(StepUnavailable, match="did not answer"), gateway.ledger_transaction() as session:
        session.connection().exec_driver_sql(raising("57014"))


@on_sqlite
def test_a_pool_that_is_used_up_is_a_fault(here: Runtime) -> None:
    pool = here.database.engine.pool
    assert isinstance(pool, QueuePool)
    pool._timeout = 0
    with ExitStack() as stack, pytest.raises(DatabaseUnavailable, match="limit"):
        for _ in range(pool.size() * 3):
            stack.enter_context(here.database.reading())


@on_sqlite
def test_real_errors_of_sqlite_are_faults_and_a_missing_table_is_not(here: Runtime, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database\n" * 1000)
    with pytest.raises(DatabaseUnavailable), Database(f"sqlite:///{tmp_path / 'text.db'}").reading():
        pass
    with pytest.raises(DBAPIError, match="no such table"), here.database.transaction() as session:
        session.execute(text("SELECT * FROM missing"))
    with here.database.transaction() as writer:
        writer.execute(text("DELETE FROM notifications"))
        with pytest.raises(DatabaseUnavailable, match="locked"), here.database.reading() as session:
            session.connection().exec_driver_sql("PRAGMA busy_timeout = 0")
            session.execute(text("DELETE FROM notifications"))
    for limit, statement in {
        "query_only = ON": "DELETE FROM notifications",
        "max_page_count = 1": "CREATE TABLE filler AS SELECT zeroblob(1000000)",
    }.items():
        here.database.close()  # the next connection is a new one, without the limit
        with pytest.raises(DatabaseUnavailable), here.database.transaction() as session:
            session.connection().exec_driver_sql(f"PRAGMA {limit}")
            session.execute(text(statement))
    here.database.close()


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2"])
def test_a_server_that_is_not_there_is_a_fault(scheme: str) -> None:
    nowhere = Database(f"{scheme}://nobody@127.0.0.1:1/none")
    with pytest.raises(DatabaseUnavailable, match="refused"), nowhere.reading():
        pass


@on_sqlite
def test_the_embedded_scheduler_and_the_sweeps_task_survive_a_fault(
    here: Runtime, post: Post, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faults = iter([DatabaseUnavailable("gone"), ValueError("a bug")])
    swept = threading.Event()

    def sweep() -> SweepResult:
        for fault in faults:
            raise fault
        swept.set()
        return SweepResult(0, 0, 0)

    monkeypatch.setattr(sagas.recovery, "sweep", sweep)
    celery.conf.task_always_eager = False
    here.settings = here.settings.but(sweep_seconds=0.01)
    with embedded_stack(here), caplog.at_level(logging.WARNING):
        assert swept.wait(60)

    assert caplog.text.count("the database does not answer, the next one tries again") == 1
    assert caplog.text.count("sweep failed, the next one tries again") == 1


@pytest.fixture
def placed(post: Post) -> PlacedOrder:
    """An order whose stock is to be reserved next."""
    placed = place(NewOrder((Item("item-001", 1),), Pattern.ORCHESTRATION))
    post.deliver("orders.create_order")
    return placed


@contextmanager
def reserving_beside(here: Runtime, post: Post) -> Iterator[Connection]:
    """Have the order's stock reserved while somebody else, who is yielded, holds the book's row."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    reserve = threading.Thread(target=run, args=[post.take("inventory.reserve_stock")])
    engine = here.database.engine
    with engine.connect() as other, engine.execution_options(isolation_level="AUTOCOMMIT").connect() as third:
        other.execute(text("SET LOCAL deadlock_timeout = '60s'"))  # not this one is sent away
        other.execute(text("UPDATE inventory SET title = title WHERE book_id = 'item-001'"))
        reserve.start()
        wait_for("a lock to be waited for", lambda: third.scalar(text(waiting)) == 1)
        yield other
    reserve.join(60)
    assert not reserve.is_alive()


@on_postgresql
@pytest.mark.parametrize("says", ["could not serialize access", "deadlock detected"])
def test_a_conflict_is_tried_again(
    here: Runtime, post: Post, placed: PlacedOrder, caplog: pytest.LogCaptureFixture, says: str
) -> None:
    if says == "could not serialize access":
        here.database.close()
        event.listen(here.database.engine, "connect", lambda driver, _: driver.set_session("REPEATABLE READ"))

    with reserving_beside(here, post) as other:
        if says == "deadlock detected":
            other.execute(text("SELECT 1 FROM saga_instances WHERE id = :id FOR UPDATE"), {"id": placed.saga_id})
        other.commit()

    assert says in " ".join(str(vars(record).get("reason")) for record in caplog.records)
    with here.database.reading() as session:  # at the first attempt that counts
        row = session.get_one(SagaStep, (placed.saga_id, "reserve_stock", "action"))
        assert (row.status, row.attempts, row.failures) == ("completed", 1, [])
    post.deliver_all()
    with here.database.reading() as session:
        assert session.get_one(SagaInstance, placed.saga_id).status == "completed"
    assert list(audit()) == []
