"""Sagas are admitted as long as those that are unfinished are served in an acceptable time."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from app.celery import app as celery
from app.errors import DatabaseUnavailable, Overloaded
from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas import Options
from durable_sagas.admission import (
    ASSUMED_PER_SECOND,
    MAX_GAP_SECONDS,
    MAX_RETRY_SECONDS,
    MIN_LIMIT,
    Admission,
    AdmissionStatus,
    Sample,
    next_limit,
    settled_per_second,
)
from durable_sagas.database import Database
from durable_sagas.definition import SagaStatus
from durable_sagas.ids import new_id
from durable_sagas.models import QueueProgress, SagaInstance
from tests.engine import trip
from tests.testkit.messages import Clock

START = datetime(2026, 1, 1, tzinfo=UTC)
WAIT_SECONDS = 30.0
ASSUMED = ASSUMED_PER_SECOND * WAIT_SECONDS
BUSY = MIN_LIMIT


def samples(*settled: dict[str, int], unfinished: int = BUSY, seconds: float = 5) -> list[Sample]:
    """Return samples at this interval, each with what the processes had settled."""
    times = (START + timedelta(seconds=seconds * number) for number in range(len(settled)))
    return [Sample(at, unfinished, counts) for at, counts in zip(times, settled, strict=True)]


@pytest.mark.parametrize(
    ("found", "rate"),
    [
        pytest.param([], None, id="no sample"),
        pytest.param(samples({"a": 7}), None, id="one sample"),
        pytest.param(samples({"a": 0}, {"a": 9}, seconds=1), None, id="too close together"),
        pytest.param(samples({"a": 0}, {"a": 9}, seconds=0), None, id="at the same time"),
        pytest.param(samples({"a": 0}, {"a": 9}, seconds=-9), None, id="the clock was set back"),
        pytest.param(samples({}, {}), 0, id="no worker has reported"),
        pytest.param(samples({"a": 10}, {"a": 60}), 10, id="one process"),
        pytest.param(samples({"a": 10, "b": 5}, {"a": 60, "b": 30}), 15, id="two processes"),
        pytest.param(samples({"a": 10}, {"a": 60, "b": 900}), 10, id="a process that was not known"),
        pytest.param(samples({"a": 0}, {"a": 50, "b": 900}, {"a": 50, "b": 950}), 10, id="it counts from then on"),
        pytest.param(samples({"a": 900, "b": 0}, {"b": 50}), 10, id="a process whose rows were pruned"),
        pytest.param(samples({"a": 900}, {"a": 3}), 0, id="a count that fell"),
    ],
)
def test_the_rate_is_what_known_processes_settled(found: list[Sample], rate: float | None) -> None:
    assert settled_per_second(found) == rate


@pytest.mark.parametrize(
    ("limit", "found", "expected"),
    [
        pytest.param(ASSUMED, samples({"a": 0}), ASSUMED, id="nothing measured"),
        pytest.param(500, samples({"a": 0}, {"a": 500}), 3000, id="it rises at once to what is served"),
        pytest.param(3000, samples({"a": 0}, {"a": 3000}, seconds=30), 3000, id="it stays while as much is served"),
        pytest.param(3000, samples({"a": 0}, {"a": 1}, seconds=30), 1500, id="it halves in an acceptable wait"),
        pytest.param(3000, samples({"a": 0}, {"a": 0}, seconds=30), 3000, id="not while nothing is served at all"),
        pytest.param(3000, samples({"a": 0}, {"a": 2400}, seconds=30), 2400, id="but not below what is served"),
        pytest.param(150, samples({"a": 0}, {"a": 1}, seconds=30), MIN_LIMIT, id="nor below the least"),
        pytest.param(
            3000, samples({"a": 0}, {"a": 1}, unfinished=BUSY - 1), 3000, id="workers without work say nothing"
        ),
        pytest.param(
            200, samples({"a": 0}, {"a": 1}, unfinished=BUSY - 1, seconds=30), 400, id="without work it recovers"
        ),
        pytest.param(
            200,
            [*samples({"a": 0}, unfinished=BUSY - 1), *samples({"a": 0}, {"a": 1}, seconds=30)[1:]],
            200,
            id="with work at times it stays",
        ),
        pytest.param(
            1400, samples({"a": 0}, {"a": 1}, unfinished=0, seconds=30), ASSUMED, id="to what is assumed, not beyond"
        ),
    ],
)
def test_the_limit_follows_what_is_served(limit: float, found: list[Sample], expected: float) -> None:
    assert next_limit(limit, found, WAIT_SECONDS) == pytest.approx(expected)


@pytest.fixture
def admission(here: Runtime, clock: Clock) -> Iterator[Admission]:
    """The admission of a process, and the clock of its database."""
    admission = Admission(lambda: here.database, lambda: Options(acceptable_wait_seconds=WAIT_SECONDS), lambda: False)
    sagas.signals.connect(admission.note_started)
    yield admission
    sagas.signals.disconnect(admission.note_started)


def store(here: Runtime, number: int, status: SagaStatus = SagaStatus.RUNNING) -> None:
    """Store so many sagas of this status."""
    now = here.now()
    with here.database.transaction() as session:
        session.add_all(
            SagaInstance(
                id=(saga_id := new_id()),
                saga_type="trip",
                aggregate_id=saga_id,
                status=status,
                state="STARTED",
                state_history=[],
                payload={},
                steps=[],
                created_at=now,
                updated_at=now,
            )
            for _ in range(number)
        )


def report(here: Runtime, process_id: str, settled: int) -> None:
    """Report as a worker process does, in one row for each queue that it serves."""
    with here.database.transaction() as session:
        for queue, count in (("orders", settled), ("payments", settled - 1)):
            row = {"queue": queue, "process_id": process_id, "moved_at": here.now(), "settled": count}
            session.merge(QueueProgress(**row))


def status(admission: Admission) -> AdmissionStatus:
    found = admission.status()
    assert found
    return found


def test_unfinished_sagas_are_counted_and_stuck_and_ended_ones_are_not(here: Runtime, admission: Admission) -> None:
    for each in SagaStatus:
        store(here, 1, each)

    assert status(admission) == AdmissionStatus(3, int(ASSUMED))


def test_what_is_over_the_limit_is_rejected_until_it_is_served(
    here: Runtime, admission: Admission, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejected: list[bool] = []
    admission.on_refusal(lambda: rejected.append(True))
    store(here, MIN_LIMIT)
    monkeypatch.setattr(admission, "_limit", float(MIN_LIMIT))

    with pytest.raises(Overloaded) as refusal:
        admission.check()
    assert 1 <= refusal.value.retry_after <= MAX_RETRY_SECONDS
    assert refusal.value.facts == {"retry_after": refusal.value.retry_after}
    assert rejected == [True]

    with here.database.transaction() as session:
        session.query(SagaInstance).limit(1).one().status = SagaStatus.COMPLETED
    clock.forward(1)
    admission.check()
    assert rejected == [True]


@pytest.mark.usefixtures("agency", "post")
def test_what_the_process_starts_counts_before_the_next_sample(admission: Admission, clock: Clock) -> None:
    assert status(admission).unfinished == 0
    trip.start()
    assert status(admission).unfinished == 1
    clock.forward(1)
    assert status(admission).unfinished == 1


def test_the_limit_is_what_the_workers_serve_in_the_acceptable_wait(
    here: Runtime, admission: Admission, clock: Clock
) -> None:
    store(here, MIN_LIMIT)
    one, another = new_id(), new_id()
    for second in range(7):
        report(here, one, second * 80)
        report(here, another, 1000 + second * 20)
        assert status(admission).limit == (ASSUMED if second < 5 else 100 * WAIT_SECONDS)
        clock.forward(1)


def test_a_cap_holds_whatever_is_served(here: Runtime, clock: Clock) -> None:
    admission = Admission(lambda: here.database, lambda: Options(max_unfinished=2), lambda: False)
    store(here, 2)

    assert status(admission) == AdmissionStatus(2, 2)
    with pytest.raises(Overloaded):
        admission.check()


def test_what_was_measured_long_ago_says_nothing(here: Runtime, admission: Admission, clock: Clock) -> None:
    store(here, MIN_LIMIT)
    process_id = new_id()
    report(here, process_id, 1)
    before = status(admission).limit
    clock.forward(MAX_GAP_SECONDS + 1)

    report(here, process_id, 2)
    assert status(admission).limit == before
    clock.forward(WAIT_SECONDS)
    report(here, process_id, 3)
    assert status(admission).limit == before / 2


def test_the_database_is_sampled_once_a_second_by_one_thread(
    here: Runtime, admission: Admission, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, reading, go_on = [], threading.Event(), threading.Event()
    read = admission._read

    def slowly() -> Sample:
        reads.append(clock())
        reading.set()
        assert go_on.wait(30)
        return read()

    monkeypatch.setattr(admission, "_read", slowly)
    thread = threading.Thread(target=admission.status)
    thread.start()
    assert reading.wait(30)
    assert admission.status() is None  # this one does not wait
    admission.check()
    go_on.set()
    thread.join(30)

    admission.check()
    assert len(reads) == 1
    clock.forward(1)
    admission.check()
    assert len(reads) == 2


def test_nothing_is_rejected_while_the_database_does_not_answer(
    here: Runtime, admission: Admission, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(here, MIN_LIMIT)
    monkeypatch.setattr(admission, "_limit", float(MIN_LIMIT))
    with pytest.raises(Overloaded):
        admission.check()

    def fail(_: Database) -> None:
        raise DatabaseUnavailable("it is away")

    monkeypatch.setattr(Database, "reading", fail)
    clock.forward(1)

    admission.check()
    assert admission.status() is None


def test_nothing_is_rejected_where_tasks_run_in_the_caller(here: Runtime, clock: Clock) -> None:
    admission = sagas.admission
    here.settings = here.settings.but(max_unfinished=1)
    sagas.reset_binding()
    store(here, 1)
    assert status(admission).is_full

    assert celery.conf.task_always_eager
    admission.check()


def test_a_rejected_client_is_to_return_when_the_excess_is_served() -> None:
    admission = Admission(lambda: pytest.fail("no database"), Options, lambda: False)  # 50 are served in a second

    def waits(unfinished: int) -> set[int]:
        return {admission._retry_after(AdmissionStatus(unfinished, 1500)) for _ in range(200)}

    assert waits(1500) == {1, 2, 3, 4, 5}
    assert waits(2000) == {11, 12, 13, 14, 15}
    assert waits(1_000_000) == {MAX_RETRY_SECONDS}
