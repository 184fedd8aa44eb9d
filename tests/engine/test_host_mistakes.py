"""What an application gets wrong: it is told at once, its sagas still end, and the log shows where to look."""

from collections.abc import Iterator

import pytest
from celery import Celery
from pydantic import BaseModel, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.celery import app as celery
from durable_sagas import (
    Command,
    Conflict,
    DefinitionError,
    Event,
    EventType,
    History,
    ManualCompletion,
    OrchestratedSaga,
    RetryPolicy,
    SagaInstance,
    Sagas,
    Step,
    StepUnavailable,
)
from durable_sagas.models import SagaStep

BY_TELEPHONE = ManualCompletion(by="Ann", note="the hotel was telephoned")


class Trip(BaseModel):
    trip: str


@pytest.fixture
def sagas(sessions: "sessionmaker[Session]") -> Iterator[Sagas]:
    """Sagas on a Celery app that runs its tasks in the caller."""
    yield Sagas(Celery("host", broker="memory://", set_as_current=False, task_always_eager=True), sessions)
    celery.set_current()


def command(sagas: Sagas, name: str, error: Exception | None = None) -> Command:
    @sagas.command(name)
    def handler(_session: Session, _trip: Trip) -> None:
        if error:
            raise error

    return handler


def start(sessions: "sessionmaker[Session]", saga: OrchestratedSaga, payload: dict[str, str]) -> str:
    with sessions.begin() as session:
        return saga.start(session, "a trip", payload).id


def status(sessions: "sessionmaker[Session]") -> str | None:
    with sessions() as session:
        return session.scalar(select(SagaInstance.status))


def test_a_payload_that_a_step_could_not_read_starts_no_saga(sagas: Sagas, sessions: "sessionmaker[Session]") -> None:
    saga = sagas.saga("trip", Step(command(sagas, "hotels.book")))

    with pytest.raises(ValidationError, match="trip"):
        start(sessions, saga, {"tripp": "one"})

    assert status(sessions) is None


def test_a_saga_whose_payload_no_step_can_read_any_more_can_be_ended(
    sagas: Sagas, sessions: "sessionmaker[Session]"
) -> None:
    down = StepUnavailable("the hotel does not answer")
    hotel = Step(command(sagas, "hotels.book"), command(sagas, "hotels.cancel", down))
    saga = sagas.saga("trip", hotel, Step(command(sagas, "flights.fly", down)))
    saga_id = start(sessions, saga, {"trip": "one"})
    assert status(sessions) == "stuck"
    with sessions.begin() as session:  # as after a deploy whose models need a field more
        session.get_one(SagaInstance, saga_id).payload = {}

    sagas.skip(saga_id, BY_TELEPHONE)

    assert status(sessions) == "compensated"


def test_a_completed_saga_without_a_pivot_is_not_cancelled(sagas: Sagas, sessions: "sessionmaker[Session]") -> None:
    saga_id = start(sessions, sagas.saga("trip", Step(command(sagas, "hotels.book"))), {"trip": "one"})

    with pytest.raises(Conflict, match="too late to cancel"):
        sagas.cancel(saga_id)

    assert status(sessions) == "completed"


@pytest.mark.parametrize(("error", "has_traceback"), [(KeyError("room"), True), (StepUnavailable("full"), False)])
def test_only_an_error_that_is_not_raised_deliberately_is_logged_with_its_traceback(
    sagas: Sagas,
    sessions: "sessionmaker[Session]",
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    has_traceback: bool,
) -> None:
    start(sessions, sagas.saga("trip", Step(command(sagas, "hotels.book", error))), {"trip": "one"})

    assert ("in handler\n    raise error" in caplog.text) is has_traceback
    assert "Step book failed for saga" in caplog.text
    assert str(error) in next(line for line in caplog.text.splitlines() if "Step book failed" in line)


def test_the_traceback_of_an_invalid_value_does_not_repeat_it(
    sagas: Sagas, sessions: "sessionmaker[Session]", caplog: pytest.LogCaptureFixture
) -> None:
    unreadable = {"trip": ["Jane Doe"]}
    with pytest.raises(ValidationError) as invalid:
        Trip.model_validate(unreadable)

    start(sessions, sagas.saga("trip", Step(command(sagas, "hotels.book", invalid.value))), {"trip": "one"})

    assert "in handler\n    raise error" in caplog.text
    assert "trip: Input should be a valid string" in caplog.text
    assert "Jane" not in caplog.text


def test_a_limit_of_retries_for_all_tasks_does_not_hold_for_steps(sessions: "sessionmaker[Session]") -> None:
    host = Celery("host", broker="memory://", set_as_current=False, task_always_eager=True)
    host.conf.task_annotations = {"*": {"max_retries": 1}}
    sagas = Sagas(host, sessions)
    book = command(sagas, "hotels.book", StepUnavailable("full"))

    start(sessions, sagas.saga("trip", Step(book, retry=RetryPolicy.fixed(4, delay=0))), {"trip": "one"})

    with sessions() as session:
        assert session.scalar(select(SagaStep.attempts).where(SagaStep.step == "book")) == 4
    assert status(sessions) == "compensated"


def test_a_choreography_that_could_not_end_or_has_no_first_event_starts_no_saga(
    sagas: Sagas, sessions: "sessionmaker[Session]"
) -> None:
    @sagas.command("trips.open")
    def open_trip(_session: Session, _trip: Trip) -> Event:
        return Event(EventType("Opened"))

    trips = sagas.choreography(
        "trip", timed_out=EventType("Late"), cancel_requested=EventType("Off"), point_of_no_return=EventType("Gone")
    )

    def refuses(match: str, create: Command) -> None:
        with pytest.raises(DefinitionError, match=match), sessions.begin() as session:
            trips.start(session, create, "a trip", {"trip": "one"}, "OPEN")
        assert status(sessions) is None

    refuses("no reaction handles Late", open_trip)

    @trips.on(EventType("Late"), EventType("Off"), queue="trips")
    def react(_past: History) -> None: ...

    refuses("returns no event", command(sagas, "hotels.book"))
