"""A worker that waits for a connection to the database is not late: no healthy order is undone for it."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from app.database import Database
from app.errors import DatabaseUnavailable
from app.runtime import Runtime
from app.sagas import sagas
from app.settings import Settings
from durable_sagas import outages
from durable_sagas.models import SagaInstance
from durable_sagas.outages import GAP_SECONDS, GRACE_SECONDS, MAX_TIMEOUTS
from tests.databases.plans import on_postgresql, on_sqlite
from tests.testkit.messages import Clock, Post
from tests.testkit.processes import wait_for
from tests.testkit.servers import POSTGRESQL
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place

TIMEOUT = 10
STEP = 5
"""How many seconds pass between two sweeps of these tests."""

Limit = Callable[[int], None]
"""Limits how many connections the shop may have."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.but(step_timeout_seconds=TIMEOUT, order_timeout_seconds=TIMEOUT)


@pytest.fixture(params=["ROLE", "DATABASE"])
def limit(request: pytest.FixtureRequest, here: Runtime, clock: Clock) -> Iterator[Limit]:
    """A shop that connects with a role of its own, which is no superuser."""
    role, database = f"shop_{uuid4().hex[:12]}", make_url(here.settings.database_url).database
    whole = create_engine(here.settings.database_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with whole.connect() as connection:
        connection.execute(text(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'"))
        connection.execute(text(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"))
    url = make_url(here.settings.database_url).set(username=role, password="secret")
    here.settings = here.settings.but(database_url=url.render_as_string(hide_password=False))
    here.database.close()
    del here.database
    here.now = clock

    def set_limit(connections: int) -> None:
        of = role if request.param == "ROLE" else database
        with whole.connect() as connection:
            connection.execute(text(f"ALTER {request.param} {of} CONNECTION LIMIT {connections}"))
        # others count among the database's, until the server has noticed that they are gone; asked from another one
        others = text("SELECT count(*) FROM pg_stat_activity WHERE datname = :database AND usename <> :role")
        with create_engine(POSTGRESQL, isolation_level="AUTOCOMMIT", poolclass=NullPool).connect() as server:
            here_too = {"database": database, "role": role}
            wait_for("the connections of others to be gone", lambda: not server.scalar(others, here_too))

    yield set_limit
    here.close()
    with whole.connect() as connection:
        connection.execute(text(f"DROP OWNED BY {role}"))
        connection.execute(text(f"DROP ROLE {role}"))


def order(pattern: Pattern = Pattern.ORCHESTRATION) -> PlacedOrder:
    return place(NewOrder((Item("item-001", 1),), pattern))


@pytest.fixture
def each(here: Runtime, post: Post, clock: Clock) -> int:
    """Place an order of each pattern that no worker executes; return their number."""
    return len([order(pattern) for pattern in Pattern])


def times_left(here: Runtime) -> set[timedelta]:
    """Return how long the sagas have until their deadlines."""
    with here.database.reading() as session:
        return {deadline - here.now() for deadline in session.scalars(select(SagaInstance.deadline_at)) if deadline}


def timed_out_within(seconds: float, clock: Clock, step: float = STEP) -> int:
    """Return how many sagas time out while the clock goes on and a sweep runs after every ``step`` seconds."""
    found = 0
    for _ in range(max(1, round(seconds / step))):
        clock.forward(min(step, seconds))
        swept = sagas.sweep_if_available()
        assert swept
        found += swept.timed_out
    return found


@on_postgresql
def test_no_deadline_passes_while_connections_are_short_nor_at_once_afterwards(
    here: Runtime, limit: Limit, each: int, clock: Clock
) -> None:
    limit(2)
    with here.database.reading() as session:  # the sweep has the other one
        session.execute(text("SELECT 1"))
        with here.database.reading(), pytest.raises(DatabaseUnavailable, match="too many connections"):
            order()
        assert timed_out_within(TIMEOUT, clock) == 0
    assert times_left(here) == {timedelta(seconds=TIMEOUT)}

    limit(-1)  # those who were refused have not noticed yet
    assert timed_out_within(GRACE_SECONDS - STEP, clock) == 0
    assert timed_out_within(STEP, clock) == each


@on_sqlite
def test_a_lasting_shortage_of_connections_does_not_keep_a_silent_service_from_timing_out(
    each: int, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "_connections_exhausted", lambda _: True)

    assert timed_out_within(MAX_TIMEOUTS * TIMEOUT, clock) == 0
    assert timed_out_within(TIMEOUT, clock) == each


@on_sqlite
def test_no_deadline_passes_for_the_time_in_which_nothing_was_swept_nor_at_once_afterwards(
    here: Runtime, each: int, clock: Clock
) -> None:
    assert timed_out_within(STEP, clock) == 0
    clock.forward(3600)  # the host was down, and every process of the shop with it
    with pytest.MonkeyPatch.context() as away:
        away.setattr(sagas.engine, "database", Database("postgresql://nobody@127.0.0.1:1/none"))
        assert sagas.sweep_if_available() is None
    clock.forward(1)

    assert timed_out_within(0, clock) == 0
    assert times_left(here) == {timedelta(seconds=TIMEOUT)}

    assert timed_out_within(GRACE_SECONDS - STEP, clock) == 0
    assert timed_out_within(STEP, clock) == each


@on_sqlite
@pytest.mark.parametrize("restarted_again", [False, True])
def test_a_saga_to_which_the_sweeps_come_late_after_an_outage_is_judged_by_its_deadline(
    each: int, clock: Clock, monkeypatch: pytest.MonkeyPatch, restarted_again: bool
) -> None:
    assert timed_out_within(0, clock) == 0
    clock.forward(3600)
    with monkeypatch.context() as others_first:
        others_first.setattr(sagas.recovery, "_claim", lambda *_: ([], True))
        if restarted_again:  # which does not hide how long the outage was
            assert timed_out_within(STEP, clock) == 0
            clock.forward(GAP_SECONDS + 2)
            assert timed_out_within(0, clock) == 0
        else:
            assert timed_out_within(GRACE_SECONDS + 2 * STEP, clock) == 0

    assert timed_out_within(0, clock) == 0
    assert timed_out_within(TIMEOUT + (GRACE_SECONDS if restarted_again else 0), clock) == each


@on_sqlite
def test_sweeps_that_are_always_late_do_not_keep_a_silent_service_from_timing_out(each: int, clock: Clock) -> None:
    assert timed_out_within(0, clock) == 0
    late = GAP_SECONDS * 1.5

    enough = int(MAX_TIMEOUTS * TIMEOUT / late) + 2
    assert sum(timed_out_within(late, clock, step=late) for _ in range(enough)) == each


@on_sqlite
def test_a_long_interval_between_sweeps_that_was_asked_for_is_no_outage(
    here: Runtime, post: Post, clock: Clock
) -> None:
    here.settings = here.settings.but(sweep_seconds=30)
    order()
    assert timed_out_within(0, clock) == 0

    assert timed_out_within(61, clock, step=61) == 1


@on_sqlite
def test_an_outage_of_the_future_is_from_before_the_clock_was_set_back_and_suspends_nothing(
    here: Runtime, each: int, clock: Clock
) -> None:
    with here.database.transaction() as session:
        outages.note_time(session, outages._EXHAUSTED_AT, here.now() + timedelta(hours=1))

    assert timed_out_within(TIMEOUT, clock) == each
