"""A small saga of the tests' own, to show that the engine knows nothing of a bookstore: a trip of three bookings.

The diary says what the services were really asked to do; it is not part of any transaction.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from sqlalchemy import String
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from app import runtime
from app.errors import StepRejected, StepUnavailable
from app.sagas import sagas
from durable_sagas.definition import Command, Guard, RetryPolicy, Step
from durable_sagas.ids import new_id
from durable_sagas.messages import Event, EventType
from durable_sagas.models import SagaInstance
from tests.testkit import stored

diary: list[str] = []


class TripBase(DeclarativeBase):
    """The trip's own tables, which the shop's migrations do not know."""


class Booking(TripBase):
    """Something booked, for as long as it is."""

    __tablename__ = "trip_bookings"

    trip: Mapped[str] = mapped_column(String(64), primary_key=True)
    what: Mapped[str] = mapped_column(String(64), primary_key=True)


class Trip(BaseModel):
    """A trip, and what is to go wrong: a command's name to an error's text, or to how often it fails."""

    trip: str
    refuse: list[str] = []
    fail: dict[str, int] = {}


def _do(trip: Trip, command_name: str) -> None:
    diary.append(command_name)
    if command_name in trip.refuse:
        raise StepRejected(f"no {command_name}")
    if diary.count(command_name) <= trip.fail.get(command_name, 0):
        raise StepUnavailable(f"{command_name} is down")


def _booking(service: str, what: str, retry: RetryPolicy | None = None) -> tuple[Command, Command]:
    """Declare the commands that book something and cancel it."""

    @sagas.command(f"{service}.book_{what}", retry=retry)
    def book(session: Session, trip: Trip) -> Event:
        session.add(Booking(trip=trip.trip, what=what))
        session.flush()
        _do(trip, f"book_{what}")
        return Event(EventType(f"{what.title()}Booked"), {"what": what})

    @sagas.command(f"{service}.cancel_{what}")
    def cancel(session: Session, trip: Trip) -> Event:
        session.delete(session.get_one(Booking, (trip.trip, what)))
        _do(trip, f"cancel_{what}")
        return Event(EventType(f"{what.title()}Cancelled"), {"what": what})

    return book, cancel


book_hotel, cancel_hotel = _booking("orders", "hotel")
book_car, cancel_car = _booking("inventory", "car", RetryPolicy.fixed(3, delay=0))
book_flight, _ = _booking("shipping", "flight")


@sagas.command("notifications.send_tickets", retry=RetryPolicy.fixed(2, delay=0))
def send_tickets(session: Session, trip: Trip) -> None:
    _do(trip, "send_tickets")


TRIP = sagas.saga(
    "trip",
    Step(book_hotel, cancel_hotel, milestone="HOTEL_BOOKED"),
    Step(
        book_car,
        cancel_car,
        milestone="CAR_BOOKED",
        guard=Guard("the traveller must have a licence", lambda saga: saga.payload.get("licence", True)),
        compensation_retry=RetryPolicy.fixed(2, delay=0),
    ),
    Step(book_flight, pivot=True, timeout=5),
    Step(send_tickets),
)


def start(**payload: Any) -> str:
    """Start a trip; returns the saga's id."""
    trip = new_id()
    with runtime.current().database.transaction() as session:
        return TRIP.start(session, trip, {"trip": trip, **payload}).id


def allow(saga_id: str, seconds: float) -> None:
    """Move the deadline of a saga's current step."""
    with runtime.current().database.transaction() as session:
        session.get_one(SagaInstance, saga_id).deadline_at = runtime.current().now() + timedelta(seconds=seconds)


def states(saga_id: str) -> list[str]:
    return [entry["state"] for entry in stored.saga(saga_id).state_history]


def booked(saga_id: str) -> set[str]:
    """Return what is booked for a trip."""
    aggregate_id = stored.saga(saga_id).aggregate_id
    with runtime.current().database.reading() as session:
        return {row.what for row in session.query(Booking).filter_by(trip=aggregate_id)}


@contextmanager
def agency() -> Iterator[None]:
    """Make the trip's tables in the current database, and begin an empty diary."""
    TripBase.metadata.create_all(runtime.current().database.engine)
    diary.clear()
    yield
