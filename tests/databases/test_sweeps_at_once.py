"""Several sweeps at once: each saga that is due is driven by one of them, once per lease, and none is forgotten."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas import recovery
from durable_sagas.ids import new_id
from durable_sagas.models import QueueProgress, SagaInstance
from durable_sagas.recovery import SweepResult
from durable_sagas.saga_log import SagaRecord
from tests.databases.plans import on_postgresql
from tests.engine import trip
from tests.testkit.messages import Clock, Post
from tests.testkit.queues import PROCESS

BATCH, DUE = 20, 60


@pytest.fixture
def started(here: Runtime, post: Post, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Trips that were started and never published, all due; a sweep takes a third of them."""
    monkeypatch.setattr(recovery, "BATCH", BATCH)
    monkeypatch.setattr(recovery, "LOOKS", BATCH)
    with trip.agency():
        with here.database.transaction() as session:
            ids = [new_id() for _ in range(DUE)]
            started = {trip.TRIP.start(session, aggregate_id, {"trip": aggregate_id}).id for aggregate_id in ids}
        post.waiting.clear()
        clock.forward(here.settings.stall_seconds + 1)
        yield started


def sweep_in_threads(sweepers: int) -> list[SweepResult]:
    """Have so many threads sweep, starting together, until each finds nothing more; returns what each sweep did."""
    together = threading.Barrier(sweepers)

    def sweep_until_done(_: int) -> list[SweepResult]:
        together.wait(60)
        done = [sagas.sweep()]
        while done[-1].driven:
            assert len(done) <= 10, "it drives the same again and again"
            done.append(sagas.sweep())
        return done

    with ThreadPoolExecutor(sweepers) as pool:
        return [swept for done in pool.map(sweep_until_done, range(sweepers)) for swept in done]


def driven(post: Post) -> Counter[str]:
    """Return how often the chain of each saga was published."""
    return Counter(str(message.kwargs["saga_id"]) for message in post.waiting if message.task == "orders.book_hotel")


def test_each_saga_is_driven_once_whichever_sweep_takes_it(
    here: Runtime, started: set[str], post: Post, clock: Clock
) -> None:
    for sweeps_so_far in (1, 2):
        swept = sweep_in_threads(3)

        assert sum(one.driven for one in swept) == DUE
        assert max(one.driven for one in swept) <= BATCH
        assert driven(post) == dict.fromkeys(started, sweeps_so_far)
        clock.forward(here.settings.stall_seconds * 2**sweeps_so_far + 1)  # the lease runs out


@on_postgresql  # SQLite has one writer at a time
def test_sweeps_claim_side_by_side_without_waiting_for_each_other(here: Runtime, started: set[str]) -> None:
    with here.database.transaction() as first, here.database.transaction() as second:
        claims = [{one.saga_id for one in sagas.recovery._claim(session, {})[0]} for session in (first, second)]

    assert [len(claim) for claim in claims] == [BATCH, BATCH]
    assert claims[0].isdisjoint(claims[1])


def test_what_a_sweep_claimed_before_it_died_is_driven_when_the_lease_has_run_out(
    here: Runtime, started: set[str], post: Post, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> str:
        raise SystemExit

    with monkeypatch.context() as dying, pytest.raises(SystemExit):
        dying.setattr(sagas.recovery, "_drive", die)
        sagas.sweep()
    assert driven(post) == {}

    assert sum(swept.driven for swept in sweep_in_threads(2)) == DUE - BATCH
    clock.forward(here.settings.stall_seconds * 2 + 1)
    sweep_in_threads(1)
    assert set(driven(post)) == started


def test_a_saga_that_cannot_be_driven_holds_up_no_other(
    started: set[str], post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = set(sorted(started)[: BATCH + 1])  # more than a whole batch
    driver = sagas.saga_types.get(trip.TRIP.name)
    assert driver
    drive = driver.drive

    def drive_some(session: Session, record: SagaRecord) -> None:
        if record.saga.id in broken:
            raise RuntimeError("cannot be driven")
        drive(session, record)

    monkeypatch.setattr(driver, "drive", drive_some)

    for _ in range(DUE // BATCH):
        sagas.sweep()

    assert driven(post) == dict.fromkeys(started - broken, 1)


def test_a_sweep_takes_no_more_than_a_batch_of_those_that_are_due_and_those_that_were_overtaken(
    here: Runtime, started: set[str], post: Post, clock: Clock
) -> None:
    with here.database.transaction() as session:
        for saga in session.scalars(select(SagaInstance).limit(DUE // 2)):
            saga.wake_at = clock() + timedelta(hours=1)  # found only because its queue has gone past it
        session.add(QueueProgress(queue="orders", process_id=PROCESS, served_until=clock(), moved_at=clock()))

    swept = [sagas.sweep().driven for _ in range(DUE // BATCH + 1)]

    assert swept == [BATCH] * (DUE // BATCH) + [0]
    assert driven(post) == dict.fromkeys(started, 1)


def test_a_saga_whose_timeout_cannot_be_read_delays_no_other(
    here: Runtime, started: set[str], post: Post, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable = min(started)
    timeout = trip.TRIP.timeout

    def read(saga: SagaInstance) -> float:
        if saga.id == unreadable:
            raise ValueError("its steps are no steps")
        return timeout(saga)

    monkeypatch.setattr(trip.TRIP, "timeout", read)
    with here.database.transaction() as session:
        session.add(QueueProgress(queue="orders", process_id=PROCESS, served_until=clock(), moved_at=clock()))

    for _ in range(DUE // BATCH):
        sagas.sweep()

    assert driven(post) == dict.fromkeys(started, 1)
