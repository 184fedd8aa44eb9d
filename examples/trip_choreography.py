"""A trip as a choreography: three services react to each other's events, without an orchestrator.

Start ``celery -A trip_choreography worker`` and ``celery -A trip_choreography beat``; ``python trip_choreography.py``
then starts one trip that is completed and two that are compensated.
"""

import os

from celery import Celery
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from durable_sagas import (
    COMPENSATION_STARTED,
    COMPLETED,
    FAILED,
    Abort,
    Compensate,
    Decision,
    Event,
    EventType,
    Execute,
    History,
    RetryPolicy,
    Sagas,
    StepRejected,
)

celery = Celery("trips", broker=os.environ.get("BROKER", "amqp://guest@localhost//"))
engine = create_engine(os.environ.get("DATABASE", "postgresql+psycopg2://localhost/trips"))
sessions = sessionmaker(engine)
sagas = Sagas(celery, sessions)
celery.conf.beat_schedule = {"sweep": {"task": sagas.sweep_task, "schedule": 1.0}}


class Base(DeclarativeBase): ...


class Trip(Base):
    __tablename__ = "trips"
    trip_id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(default="requested")
    seat: Mapped[str | None]


class Seat(Base):
    __tablename__ = "seats"
    trip_id: Mapped[str] = mapped_column(primary_key=True)
    seat: Mapped[str]


class Charge(Base):
    __tablename__ = "charges"
    trip_id: Mapped[str] = mapped_column(primary_key=True)
    receipt: Mapped[str]


class LedgerEntry(Base):
    """An entry of the card provider, which is outside: its functions commit on their own."""

    __tablename__ = "provider_ledger"
    key: Mapped[str] = mapped_column(primary_key=True)
    voided: Mapped[bool] = mapped_column(default=False)


# Events: the type is the name of a fact, the payload adds data for later commands.
TripRequested = EventType("TripRequested")
TripConfirmed = EventType("TripConfirmed")
TripRefused = EventType("TripRefused")
TripCancelled = EventType("TripCancelled")
TripTimedOut = EventType("TripTimedOut")
TripCancelRequested = EventType("TripCancelRequested")
SeatBooked = EventType("SeatBooked")
SeatUnavailable = EventType("SeatUnavailable")
SeatReleased = EventType("SeatReleased")
CardCharged = EventType("CardCharged")
CardRejected = EventType("CardRejected")
CardRefunded = EventType("CardRefunded")


class TripMessage(BaseModel):
    """What the commands need: from the payload of the saga, and from the payloads of its events so far."""

    trip_id: str
    passengers: int
    amount: int
    seat: str | None = None  # of SeatBooked


# The service `trips`


@sagas.command("trips.request_trip")
def request_trip(session: Session, trip: TripMessage) -> Event:
    session.add(Trip(trip_id=trip.trip_id))
    return Event(TripRequested)


def refuse_trip(session: Session, trip: TripMessage, reason: str) -> Event:
    return Event(TripRefused, {"reason": reason})


@sagas.command("trips.confirm_trip", on_rejected=refuse_trip, retry=RetryPolicy.exponential(5))
def confirm_trip(session: Session, trip: TripMessage) -> Event:
    found = session.get_one(Trip, trip.trip_id)
    found.state, found.seat = "confirmed", trip.seat
    return Event(TripConfirmed)


@sagas.command("trips.cancel_trip")
def cancel_trip(session: Session, trip: TripMessage) -> Event:
    session.get_one(Trip, trip.trip_id).state = "cancelled"
    return Event(TripCancelled)


# The service `seats`


def note_no_seat(session: Session, trip: TripMessage, reason: str) -> Event:
    return Event(SeatUnavailable, {"reason": reason})


@sagas.command("seats.book_seat", on_rejected=note_no_seat, retry=RetryPolicy.exponential(5))
def book_seat(session: Session, trip: TripMessage) -> Event:
    if trip.passengers > 4:
        raise StepRejected("there are four seats")
    session.add(Seat(trip_id=trip.trip_id, seat="12A"))
    return Event(SeatBooked, {"seat": "12A"})


@sagas.command("seats.release_seat")
def release_seat(session: Session, trip: TripMessage) -> Event:
    session.delete(session.get_one(Seat, trip.trip_id))
    return Event(SeatReleased)


# The service `cards`, which calls a gateway


def charge_at_provider(trip: TripMessage, key: str) -> str:
    """Charge the card; a key that is known already gets its first answer, or a rejection once it is voided."""
    if trip.amount > 1000:
        raise StepRejected("over the limit")
    with sessions.begin() as provider:
        entry = provider.get(LedgerEntry, key) or LedgerEntry(key=key, voided=False)
        if entry.voided:
            raise StepRejected("the charge was voided")
        provider.add(entry)
    return key


def void_at_provider(trip: TripMessage, key: str) -> bool:
    """Void the key, whether or not it was charged; return whether there was a charge to refund."""
    with sessions.begin() as provider:
        charged = provider.get(LedgerEntry, key)
        provider.merge(LedgerEntry(key=key, voided=True))
    return charged is not None


def note_no_charge(session: Session, trip: TripMessage, reason: str, refunded: bool | None) -> Event:
    return Event(CardRejected, {"reason": reason})


@sagas.command(
    "cards.charge_card",
    call=charge_at_provider,
    void=void_at_provider,
    on_rejected=note_no_charge,
    retry=RetryPolicy.exponential(3),
)
def charge_card(session: Session, trip: TripMessage, receipt: str) -> Event:
    session.add(Charge(trip_id=trip.trip_id, receipt=receipt))
    return Event(CardCharged)


@sagas.command("cards.refund_card", call=void_at_provider)
def refund_card(session: Session, trip: TripMessage, refunded: bool) -> Event:
    if charge := session.get(Charge, trip.trip_id):  # there is none if the card was never charged
        session.delete(charge)
    return Event(CardRefunded)


# The reactions: on these events, this service executes, compensates or aborts that action.

TRIP = sagas.choreography(
    "trip",
    timed_out=TripTimedOut,
    cancel_requested=TripCancelRequested,
    point_of_no_return=TripConfirmed,
)
MONEY_SETTLED = (CardRejected, CardRefunded)
SEAT_SETTLED = (SeatUnavailable, SeatReleased)


@TRIP.on(TripRequested, queue="seats")
def book_on_request(_: History) -> Decision:
    return Execute(book_seat)  # SeatBooked or SeatUnavailable


@TRIP.on(TripRequested, queue="cards")
def charge_on_request(_: History) -> Decision:
    return Execute(charge_card, unless=SeatUnavailable)  # CardCharged or CardRejected


@TRIP.on(SeatBooked, CardCharged, queue="trips")
def confirm_when_booked_and_charged(trip: History) -> Decision:
    if trip.has_any(TripTimedOut, TripCancelRequested) or not trip.has(SeatBooked, CardCharged):
        return None
    return Execute(confirm_trip)  # TripConfirmed or TripRefused


@TRIP.on(TripTimedOut, TripCancelRequested, queue="trips")
def refuse_unless_confirmed(trip: History) -> Decision:
    # TripRefused, unless the trip is confirmed already
    return Abort(confirm_trip, "it timed out" if trip.has(TripTimedOut) else "it was cancelled")


@TRIP.on(SeatUnavailable, TripRefused, queue="cards")
def refund_on_failure(_: History) -> Decision:
    return Compensate(charge_card, refund_card)  # CardRefunded


@TRIP.on(CardRejected, TripRefused, queue="seats")
def release_on_failure(_: History) -> Decision:
    return Compensate(book_seat, release_seat, event_if_nothing_done=SeatReleased)  # SeatReleased


@TRIP.on(*MONEY_SETTLED, *SEAT_SETTLED, queue="trips")
def cancel_when_settled(trip: History) -> Decision:
    if trip.has_any(*MONEY_SETTLED) and trip.has_any(*SEAT_SETTLED):
        return Compensate(request_trip, cancel_trip)  # TripCancelled
    return None


@TRIP.projection(TripConfirmed, SeatUnavailable, CardRejected, TripRefused, TripCancelled)
def state_of(trip: History) -> str | None:
    if trip.has(TripConfirmed):
        return COMPLETED
    if trip.has(TripCancelled):
        return FAILED
    return COMPENSATION_STARTED


if __name__ == "__main__":
    Base.metadata.create_all(engine)
    sagas.metadata.create_all(engine)
    for trip_id, passengers, amount in (("sea", 2, 400), ("moon", 2, 4000), ("bus", 40, 400)):
        with sessions.begin() as session:
            data = {"trip_id": trip_id, "passengers": passengers, "amount": amount}
            TRIP.start(session, request_trip, trip_id, data, "REQUESTED")
