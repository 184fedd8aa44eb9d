"""A saga of two steps beside a foreign task: an application's own Celery app, queues, tables and sessions.

Start a worker with ``celery -A two_steps worker --pool solo``; ``python two_steps.py`` then starts one trip that is
completed and one that is compensated, and calls the foreign task.
"""

import os

from celery import Celery
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from durable_sagas import Event, EventType, Sagas, Step, StepRejected

celery = Celery("trips", broker=os.environ["BROKER"], backend="file:///" + os.environ["RESULTS"].lstrip("/"))
celery.conf.update(task_serializer="pickle", result_serializer="pickle", accept_content=["pickle", "json"])
celery.conf.update(task_routes={"flights.*": {"queue": "airport"}}, task_default_queue="office")
sessions = sessionmaker(create_engine(os.environ["DATABASE"]))
sagas = Sagas(celery, sessions)


class Base(DeclarativeBase): ...


class Flight(Base):
    __tablename__ = "flights"
    trip_id: Mapped[str] = mapped_column(primary_key=True)


class Trip(BaseModel):
    trip_id: str
    simulate: str = "a field like any other"
    card: str = "valid"


@sagas.command("flights.book_flight")
def book_flight(session: Session, trip: Trip) -> Event:
    session.add(Flight(trip_id=trip.trip_id))
    return Event(EventType("FlightBooked"), {"trip_id": trip.trip_id})


@sagas.command("flights.cancel_flight")
def cancel_flight(session: Session, trip: Trip) -> None:
    session.delete(session.get_one(Flight, trip.trip_id))


@sagas.command("cards.charge_card")
def charge_card(session: Session, trip: Trip) -> Event:
    if trip.card != "valid":
        raise StepRejected(f"the card is {trip.card}")
    return Event(EventType("CardCharged"), {"trip_id": trip.trip_id})


TRIP = sagas.saga("trip", Step(book_flight, cancel_flight), Step(charge_card))


@celery.task(name="office.add")
def add(x: complex, y: complex) -> complex:
    return x + y


if __name__ == "__main__":
    Base.metadata.create_all(sessions.kw["bind"])
    sagas.metadata.create_all(sessions.kw["bind"])
    with sessions.begin() as session:
        TRIP.start(session, "to the sea", {"trip_id": "to the sea"})
        TRIP.start(session, "to the moon", {"trip_id": "to the moon", "card": "stolen"})
    print(add.delay(1 + 2j, y=3j).get(timeout=60))
