"""What counts as a fault of the database, by errors that the databases themselves raise; and how it is lived with."""

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from app.celery import app as celery
from app.database import Database
from app.errors import DatabaseUnavailable, StepUnavailable
from app.runtime import Runtime
from cli.embedded import EmbeddedStack
from durable_sagas import recovery
from durable_sagas.recovery import SweepResult
from tasks.gateways.ledger import ledger_transaction
from tasks.gateways.simulated_network import SimulatedNetwork
from tests.databases.breaker import raising
from tests.testkit.messages import Clock, Post
from workflows.orders import Item, NewOrder, Pattern, place

on_postgresql = pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

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
    network = SimulatedNetwork(timeout=5, latency=0, stopping=here.stopping)
    for code in ("40001", "53300", "55P03", "25006"):
        with pytest.raises(DatabaseUnavailable), ledger_transaction(here.database, network) as session:
            session.connection().exec_driver_sql(raising(code))
    with pytest.raises(StepUnavailable, match="did not answer"), ledger_transaction(here.database, network) as session:
        session.connection().exec_driver_sql(raising("57014"))


@on_sqlite
def test_a_pool_that_is_used_up_is_a_fault(here: Runtime) -> None:
    pool = here.database.engine.pool
    assert isinstance(pool, QueuePool)
    pool._timeout = 0
    with ExitStack() as stack, pytest.raises(DatabaseUnavailable, match="limit"):
        for _ in range(pool.size() * 3):
            stack.enter_context(here.database.reading())


def read_only(session: Session) -> None:
    session.connection().exec_driver_sql("PRAGMA query_only = ON")
    session.execute(text("DELETE FROM notifications"))


def full(session: Session) -> None:
    session.connection().exec_driver_sql("PRAGMA max_page_count = 1")
    session.execute(text("CREATE TABLE filler AS SELECT zeroblob(1000000)"))


@on_sqlite
@pytest.mark.parametrize("fail", [read_only, full])
def test_real_errors_of_sqlite_are_faults(here: Runtime, fail: Callable[[Session], None]) -> None:
    with pytest.raises(DatabaseUnavailable), here.database.transaction() as session:
        fail(session)
    here.database.close()


@on_sqlite
def test_a_locked_file_of_sqlite_is_a_fault(here: Runtime) -> None:
    with here.database.transaction() as writer:
        writer.execute(text("DELETE FROM notifications"))
        with pytest.raises(DatabaseUnavailable, match="locked"), here.database.reading() as session:
            connection = session.connection()
            connection.exec_driver_sql("PRAGMA busy_timeout = 0")
            connection.exec_driver_sql("DELETE FROM notifications")
    here.database.close()


@on_sqlite
def test_what_is_no_database_is_a_fault_and_a_missing_table_is_not(here: Runtime, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database\n" * 1000)
    with pytest.raises(DatabaseUnavailable), Database(f"sqlite:///{tmp_path / 'text.db'}").reading():
        pass
    with pytest.raises(DBAPIError, match="no such table"), here.database.transaction() as session:
        session.execute(text("SELECT * FROM missing"))


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

    monkeypatch.setattr(recovery, "sweep", sweep)
    celery.conf.task_always_eager = False
    here.settings = here.settings.but(sweep_seconds=0.01)
    with EmbeddedStack(here), caplog.at_level(logging.WARNING):
        assert swept.wait(60)

    assert caplog.text.count("the database does not answer, the next one tries again") == 1
    assert caplog.text.count("sweep failed, the next one tries again") == 1


def test_a_sweep_that_fails_leaves_the_next_one_all_its_work(
    here: Runtime, post: Post, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = place(NewOrder((Item("item-001", 1),), Pattern.ORCHESTRATION))
    post.waiting.clear()
    clock.forward(here.settings.stall_seconds + 1)
    with monkeypatch.context() as broken:
        broken.setattr(here.database.engine.dialect, "do_commit", refuse)
        assert celery.tasks["orchestrator.sweep"].apply().failed()

    assert celery.tasks["orchestrator.sweep"].apply().result == {"driven": 1, "timed_out": 0, "resent": 0, "locked": 0}
    assert {message.kwargs["saga_id"] for message in post.waiting} == {placed.saga_id}


def refuse(_: object) -> None:
    raise OSError("the disk is gone")
