"""Whose clock decides: the database's, whatever the clocks of the machines that ask it say."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import make_url

from app import runtime
from app.celery import app as celery
from app.database import Database
from app.runtime import Runtime
from app.sagas import sagas
from app.settings import Settings
from durable_sagas import recovery
from durable_sagas.database import clock
from durable_sagas.database.clock import ServerClock
from durable_sagas.models import SagaInstance
from tests.databases.plans import on_postgresql
from tests.testkit.messages import Clock, Post
from workflows.orders import Item, NewOrder, Pattern, place

SKEW_SECONDS = 40
EXACT = timedelta(seconds=5)
"""How far two readings may be apart on a machine that is slow, and still be told from a clock that is wrong."""

SKEWED_CLOCK = """
CREATE SCHEMA skewed;
CREATE TABLE skewed.skew (seconds float NOT NULL);
INSERT INTO skewed.skew VALUES (0);
CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
AS 'SELECT pg_catalog.clock_timestamp() + seconds * interval ''1 second'' FROM skewed.skew';
"""
"""A clock of the server's that a test can set: it is found before the built-in one where the search path says so."""


@pytest.fixture
def skewed(settings: Settings) -> Iterator[Runtime]:
    """A process whose database's clock a test can set with ``set_clock``: its own is then wrong by as much."""
    url = make_url(settings.database_url)
    plain = Database(settings.database_url)
    with plain.transaction() as session:
        session.connection().exec_driver_sql(SKEWED_CLOCK)
    plain.close()
    options = f"{url.query['options']} -c search_path=skewed,public,pg_catalog"
    there = url.update_query_dict({"options": options}).render_as_string(hide_password=False)
    here = runtime.use(Runtime(settings.but(database_url=there)))
    yield here
    here.close()


def set_clock(here: Runtime, seconds: float) -> None:
    """Set the server's clock so many seconds ahead of this machine's."""
    with here.database.transaction() as session:
        session.execute(text("UPDATE skewed.skew SET seconds = :seconds"), {"seconds": seconds})


def is_ahead(here: Runtime, seconds: float) -> bool:
    """Return whether a process's clock goes so many seconds ahead of this machine's."""
    return abs(here.now() - datetime.now(UTC) - timedelta(seconds=seconds)) < EXACT


@on_postgresql
@pytest.mark.parametrize("server", ["the same", "another"])
def test_a_process_goes_by_the_databases_clock_from_its_start_and_when_it_jumps(
    skewed: Runtime, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    assert is_ahead(skewed, 0)
    seconds = SKEW_SECONDS if server == "the same" else -SKEW_SECONDS
    set_clock(skewed, seconds)
    with closing(Runtime(skewed.settings)) as another:  # as another process that starts now
        assert is_ahead(another, seconds)
    if server == "another":
        skewed.database.close()  # what a failover does: the next connection is a new one
    else:
        monkeypatch.setattr(clock, "CHECK_SECONDS", 0)  # it is time for another comparison

    sagas.last_swept()

    assert is_ahead(skewed, seconds)


@on_postgresql
def test_the_clock_costs_no_statement_of_a_transaction(here: Runtime, executed: list[object]) -> None:
    sagas.last_swept()
    executed.clear()

    for _ in range(10):
        here.now()

    assert executed == []


@on_postgresql
def test_a_first_question_for_the_time_does_not_disturb_a_thread_that_connects(settings: Settings) -> None:
    """SQLAlchemy iterates over a pool's listeners for each connection: one added meanwhile ends it with an error."""
    database = Database(settings.database_url)
    first = database.engine.connect()  # which SQLAlchemy makes under a lock
    asked: list[datetime] = []

    def ask(*_: object) -> None:
        if not asked:
            asked.append(datetime.now(UTC))
            with ThreadPoolExecutor(1) as others:
                asked[0] = others.submit(database.now).result(30)

    event.listen(database.engine, "connect", ask)
    event.listen(database.engine, "connect", lambda *_: None)

    database.engine.connect().close()

    assert abs(asked[0] - datetime.now(UTC)) < EXACT
    first.close()
    database.close()


def test_comparisons_that_agree_leave_the_clock_alone_and_one_that_does_not_sets_it() -> None:
    nowhere = Database("postgresql+psycopg2://127.0.0.1:1/nobody-listens-here")
    clock = ServerClock(nowhere.engine)
    assert abs(nowhere.now() - datetime.now(UTC)) < EXACT  # which has never answered

    clock.compare(100.0, 1000.0, 100.2)
    first = clock._offset
    assert first == pytest.approx(899.9)
    clock.compare(200.0, 1110.0, 230.0)  # frozen in between: it says little, and nothing against what is known
    assert clock._offset == first
    clock.compare(300.0, 1240.0, 300.2)
    assert clock._offset == pytest.approx(939.9)
    nowhere.close()


@on_postgresql
def test_a_deadline_is_set_and_judged_by_the_databases_clock(skewed: Runtime, post: Post) -> None:
    timeout = timedelta(seconds=skewed.settings.step_timeout_seconds)
    set_clock(skewed, -2 * timeout.total_seconds())  # by its own clock this machine would find every deadline passed
    machine = runtime.use(Runtime(skewed.settings))

    placed = place(NewOrder((Item("item-001", 1),), Pattern.ORCHESTRATION))

    assert sagas.sweep() == recovery.SweepResult(driven=0, timed_out=0, resent=0)
    with machine.database.reading() as session:
        deadline_at = session.get_one(SagaInstance, placed.saga_id).deadline_at
        server_now = session.scalar(text("SELECT clock_timestamp()"))
    assert deadline_at is not None
    assert abs(deadline_at - server_now - timeout) < EXACT
    machine.close()


def test_sweeps_that_have_piled_up_are_one_sweep(here: Runtime, clock: Clock) -> None:
    for passed in (0, here.settings.sweep_seconds, -3600):  # one from before the clock was set back holds up none
        clock.forward(passed)
        results = [celery.tasks["orchestrator.sweep"].apply().result for _ in range(20)]
        assert [result is not None for result in results].count(True) == 1
