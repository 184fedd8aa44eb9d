"""The engine in an application that is not CloudMart: its sessions, its Celery app, its tasks."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, Task
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from app.celery import app as celery
from durable_sagas import DefinitionError, OrchestratedSaga, Sagas, Step
from durable_sagas.database import Database, after_commit


@pytest.fixture
def host() -> Iterator[Celery]:
    """An application's Celery app, which runs its tasks in the caller."""
    yield Celery("host", broker="memory://", set_as_current=False, task_always_eager=True)
    celery.set_current()


class Trip(BaseModel):
    trip: str


def a_trip(sagas: Sagas) -> tuple[OrchestratedSaga, list[str]]:
    done: list[str] = []

    @sagas.command("hotels.book")
    def book(_session: Session, trip: Trip) -> None:
        done.append(trip.trip)

    return sagas.saga("trip", Step(book)), done


def test_a_saga_starts_with_the_applications_own_commit(host: Celery, sessions: "sessionmaker[Session]") -> None:
    saga, done = a_trip(Sagas(host, sessions))

    with sessions() as session:
        saga.start(session, "rolled back", {"trip": "rolled back"})
        session.rollback()
        saga.start(session, "one", {"trip": "one"})
        with session.begin_nested() as savepoint:
            saga.start(session, "rolled back too", {"trip": "rolled back too"})
            savepoint.rollback()
        saga.start(session, "two", {"trip": "two"})
        assert done == []
        session.commit()
        assert done == ["one", "two"]
        saga.start(session, "three", {"trip": "three"})
        session.commit()

    assert done == ["one", "two", "three"]


def test_a_session_that_is_closed_without_an_end_sends_nothing_later(sessions: "sessionmaker[Session]") -> None:
    called: list[str] = []
    session = sessions()
    session.execute(text("SELECT 1"))
    after_commit(session, lambda: called.append("closed"))
    session.close()

    session.execute(text("SELECT 1"))
    after_commit(session, lambda: called.append("committed"))
    session.commit()
    session.close()

    assert called == ["committed"]


def test_a_callback_that_fails_keeps_neither_the_commit_nor_the_others(
    sessions: "sessionmaker[Session]", caplog: pytest.LogCaptureFixture
) -> None:
    called: list[str] = []

    def fail() -> None:
        raise OSError("the connection is lost")

    with sessions.begin() as session:
        session.execute(text("SELECT 1"))
        after_commit(session, fail)
        after_commit(session, lambda: called.append("the next"))
    with Database(sessions).transaction() as session:
        after_commit(session, fail)
        after_commit(session, lambda: called.append("and its"))

    assert called == ["the next", "and its"]
    assert caplog.text.count("a callback after the commit failed") == 2


def test_on_sqlite_a_transaction_begins_as_a_writer_whatever_the_applications_engine_does(
    sessions: "sessionmaker[Session]",
) -> None:
    with Database(sessions).transaction() as session:
        connection: Any = session.connection().connection.dbapi_connection
        assert connection.in_transaction


def test_a_name_that_is_taken_is_refused(host: Celery, sessions: "sessionmaker[Session]") -> None:
    sagas = Sagas(host, sessions)
    a_trip(sagas)

    with pytest.raises(DefinitionError, match=r"orchestrator.request_compensation"):
        Sagas(host, sessions)
    with pytest.raises(DefinitionError, match="same short name"):
        sagas.command("flights.book")(rent)
    with pytest.raises(DefinitionError, match="declared twice"):
        sagas.saga("trip", Step(sagas.command("cars.rent")(rent)))
    Sagas(host, sessions, coordinator="another")


def rent(_session: Session, _trip: Trip) -> None: ...


def test_the_context_that_the_applications_tasks_run_in_is_there(sessions: "sessionmaker[Session]") -> None:
    entered: list[str] = []

    class ContextTask(Task):  # type: ignore[type-arg]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            entered.append(str(self.name))
            return self.run(*args, **kwargs)

    host = Celery("host", broker="memory://", set_as_current=False, task_always_eager=True, task_cls=ContextTask)
    saga, done = a_trip(Sagas(host, sessions))

    with sessions.begin() as session:
        saga.start(session, "one", {"trip": "one"})

    assert (entered, done) == (["hotels.book"], ["one"])
    assert not host.tasks["hotels.book"].batches  # type: ignore[attr-defined]
    assert "hotels.book" not in Celery("another", set_as_current=False).tasks


@pytest.mark.parametrize("route", [{"queue": "airport"}, "airport"])
def test_the_applications_routes_take_precedence(route: Any, sessions: "sessionmaker[Session]") -> None:
    host = Celery("host", broker="memory://", set_as_current=False)
    host.conf.task_routes = (lambda name, *_, **__: route if name.startswith("hotels.") else None,)
    sagas = Sagas(host, sessions)
    a_trip(sagas)

    assert sagas.queues == ("orchestrator", "airport")
