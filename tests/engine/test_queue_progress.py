"""How far queues have been served, and long gateway calls: what each worker process reports."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas import Options
from durable_sagas.decisions import QueueState
from durable_sagas.errors import DatabaseUnavailable
from durable_sagas.models import QueueProgress
from durable_sagas.outages import Outages
from durable_sagas.queue_progress import (
    KEPT_SECONDS,
    SIDE_BY_SIDE_SECONDS,
    Call,
    ServedQueues,
    progress_of,
    prune,
    read_reports,
)
from tests.engine import trip
from tests.testkit import stored
from tests.testkit.messages import Clock, Post
from tests.testkit.queues import PROCESS, reporting

pytestmark = pytest.mark.usefixtures("agency")

NO_OUTAGES = Outages([], None, Options(), None, None)
OTHER = "00000000-0000-7000-8000-000000000002"


def due_in(saga_id: str, clock: Clock) -> float:
    wake_at = stored.saga(saga_id).wake_at
    assert wake_at is not None
    return round((wake_at - clock()).total_seconds(), 1)


def reported(here: Runtime) -> dict[tuple[str, str], QueueProgress]:
    with here.database.reading() as session:
        return {(row.queue, row.process_id): row for row in session.scalars(select(QueueProgress))}


def row(process_id: str, clock: Clock, served: float | None, moved: float) -> QueueProgress:
    """Return a report: served until, and moved, so many seconds ago."""
    until = None if served is None else clock() - timedelta(seconds=served)
    moved_at = clock() - timedelta(seconds=moved)
    return QueueProgress(queue="orders", process_id=process_id, served_until=until, moved_at=moved_at, settled=0)


def test_what_a_process_has_served_is_reported_once_and_never_less(here: Runtime, clock: Clock) -> None:
    with reporting():
        sagas.engine.served.note("orders", [clock(), clock() - timedelta(seconds=5)])
        newest = clock()
        sagas.report_progress()
        clock.forward(3)
        sagas.engine.served.note("orders", [])  # a message of unknown position
        sagas.report_progress()

    found = reported(here)["orders", PROCESS]
    assert (found.served_until, found.moved_at) == (newest, clock())


def test_what_was_not_committed_has_not_been_served(
    here: Runtime, clock: Clock, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    trip.start()
    transaction = here.database.transaction

    @contextmanager
    def lost() -> Iterator[Session]:
        with transaction() as session:
            yield session
            raise KeyboardInterrupt

    with reporting():
        with monkeypatch.context() as ending, pytest.raises(KeyboardInterrupt):
            ending.setattr(here.database, "transaction", lost)
            post.deliver("orders.book_hotel")
        sagas.report_progress()
        assert reported(here) == {}

        trip.start()
        post.deliver("orders.book_hotel")
        sagas.report_progress()

    assert ("orders", PROCESS) in reported(here)


def test_a_process_that_is_no_worker_reports_nothing(here: Runtime, clock: Clock) -> None:
    trip.start()
    sagas.report_progress()

    assert reported(here) == {}


def test_a_report_counts_the_sagas_that_ended_in_the_process(here: Runtime) -> None:
    with reporting():
        before = sagas.engine.served._settled
        trip.start()
        trip.start(refuse=["book_flight"])
        sagas.report_progress()

    assert {one.settled - before for one in reported(here).values()} == {2}


def test_what_is_being_called_for_has_not_been_served_until_the_call_is_long(here: Runtime, clock: Clock) -> None:
    older = clock() - timedelta(seconds=9)
    call = Call("a saga", "orders", older, None)
    with reporting(), sagas.engine.served.under_way(call):
        sagas.engine.served.note("orders", [clock()])
        sagas.report_progress()
        assert reported(here)["orders", PROCESS].served_until == older

        call.is_long = True  # its saga's row says so: it is not looked for in the queue
        sagas.engine.served.note("orders", [clock()])
        sagas.report_progress()
        assert reported(here)["orders", PROCESS].served_until == clock()


def test_the_slowest_process_at_work_says_how_far_a_queue_is(clock: Clock) -> None:
    slow, quick = row(OTHER, clock, served=8, moved=1), row(PROCESS, clock, served=2, moved=0)
    gone = row("gone", clock, served=90, moved=SIDE_BY_SIDE_SECONDS)
    of_no_position = row("other", clock, served=None, moved=0)

    assert progress([slow, quick, gone, of_no_position], clock) == QueueState(slow.served_until, quick.moved_at)
    assert progress([of_no_position], clock) == QueueState(None, clock())


def progress(rows: list[QueueProgress], clock: Clock, outages: Outages = NO_OUTAGES) -> QueueState | None:
    return progress_of(rows, outages.silent_since, clock())


def test_reports_from_the_future_are_from_before_the_clock_was_set_back(clock: Clock) -> None:
    ahead, now = row(OTHER, clock, served=-300, moved=-300), row(PROCESS, clock, served=-300, moved=0)

    assert progress([ahead], clock) is None
    assert progress([ahead, now], clock) == QueueState(clock(), clock())


@pytest.mark.parametrize(
    ("moved", "swept_again", "exhausted", "refused", "silent"),
    [
        (60, None, None, None, 60),
        (60, 5, None, None, 5),
        (2, 5, None, None, 2),
        (60, None, 5, None, 5),
        (60, None, None, 5, 5),
        (86_400, 5, None, None, 5),
        (601, None, 0, 0, 601),
        (86_400, 5, None, 1, 1),
    ],
)
def test_an_outage_is_not_the_silence_of_a_queue_but_what_lasts_for_ever_is_no_outage(
    clock: Clock, moved: float, swept_again: float | None, exhausted: float | None, refused: float | None, silent: float
) -> None:
    def ago(seconds: float | None) -> datetime | None:
        return None if seconds is None else clock() - timedelta(seconds=seconds)

    ended_at = [moment for moment in (ago(exhausted), ago(swept_again)) if moment]
    outages = Outages(ended_at, None, Options(saga_timeout_seconds=60), ago(swept_again), ago(refused))
    state = progress([row(PROCESS, clock, served=moved, moved=moved)], clock, outages)

    assert state == QueueState(ago(moved), clock() - timedelta(seconds=silent))


def test_rows_of_ended_processes_are_deleted_except_for_unserved_queues(here: Runtime, clock: Clock) -> None:
    old = KEPT_SECONDS + 1
    silent = row(OTHER, clock, served=old, moved=old)
    silent.queue = "payments"
    with here.database.transaction() as session:
        session.add_all([row(PROCESS, clock, 0, 0), row(OTHER, clock, old, old), silent])
    with here.database.transaction() as session:
        prune(session, read_reports(session), clock())

    assert reported(here).keys() == {("orders", PROCESS), ("payments", OTHER)}


def test_a_long_call_postpones_the_next_check_but_not_beyond_the_deadline(
    here: Runtime, clock: Clock, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sagas.engine, "options", Options(step_timeout_seconds=30, stall_seconds=10))
    saga_id = trip.start()
    deadline = stored.saga(saga_id).deadline_at

    clock.forward(9)
    sagas.engine.served.renew([Call(saga_id, "orders", None, None)])
    assert due_in(saga_id, clock) == 10
    assert stored.saga(saga_id).queue is None
    clock.forward(9)
    assert sagas.sweep().driven == 0

    clock.forward(8)
    sagas.engine.served.renew([Call(saga_id, "orders", None, None)])
    assert stored.saga(saga_id).wake_at == deadline


def test_a_call_that_began_late_has_its_timeout_from_when_it_began(here: Runtime, clock: Clock, post: Post) -> None:
    saga_id = trip.start()
    clock.forward(600)
    deadline = clock() + timedelta(seconds=30)

    sagas.engine.served.renew([Call(saga_id, "orders", None, deadline)])

    assert stored.saga(saga_id).deadline_at == deadline
    assert sagas.sweep().timed_out == 0
    clock.forward(31)
    assert sagas.sweep().timed_out == 1


def test_a_call_is_not_noted_on_a_saga_that_has_gone_on(here: Runtime, clock: Clock, post: Post) -> None:
    saga_id = trip.start()
    began = stored.saga(saga_id).updated_at
    clock.forward(3)
    post.deliver("orders.book_hotel")

    sagas.engine.served.renew([Call(saga_id, "orders", None, clock(), updated_at=began)])

    assert stored.saga(saga_id).queue == "inventory"


def test_what_could_not_be_written_is_reported_with_the_next(
    here: Runtime, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise DatabaseUnavailable("away")

    with reporting():
        sagas.engine.served.note("orders", [clock()])
        with monkeypatch.context() as away:
            away.setattr(here.database, "transaction", refuse)
            sagas.report_progress()
        assert reported(here) == {}
        sagas.report_progress()

    assert reported(here)["orders", PROCESS].served_until == clock()


def test_no_step_fails_because_no_thread_can_be_started(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    served = ServedQueues(lambda: here.database, Options)
    served.reports = True
    monkeypatch.setattr(threading.Thread, "start", refuse)

    served.note("orders", [])
    with served.under_way(Call("one", "orders", None, None)):
        pass


def test_a_saga_that_has_ended_is_not_checked_again(here: Runtime, clock: Clock, agency: None) -> None:
    saga_id = trip.start()
    assert stored.saga(saga_id).status == "completed"

    sagas.engine.served.renew([Call(saga_id, "orders", None, None)])

    assert stored.saga(saga_id).wake_at is None


def test_a_call_is_renewed_for_as_long_as_it_lasts(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = ServedQueues(lambda: here.database, lambda: Options(stall_seconds=0.03))
    renewed = threading.Semaphore(0)
    seen: list[set[Call]] = []
    call = Call("one", "orders", None, None)

    def renew(long: set[Call]) -> None:
        seen.append(long)
        renewed.release()

    monkeypatch.setattr(calls, "renew", renew)

    with calls.under_way(call):
        assert renewed.acquire(timeout=30)
        assert renewed.acquire(timeout=30)
        thread = calls._thread

    assert thread
    thread.join(30)
    assert calls._thread is None
    assert seen[0] == {call}
