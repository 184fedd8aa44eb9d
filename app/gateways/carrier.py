"""The carrier."""

from typing import Protocol

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base, Database
from app.errors import StepRejected
from app.gateways.ledger import insert_once, ledger_transaction
from app.gateways.line import Line
from app.ids import new_id


class CarrierEntry(Base):
    """One line of the carrier's books: a booking, its cancellation, or a key that may not be used any more."""

    __tablename__ = "carrier_ledger"

    idempotency_key: Mapped[str] = mapped_column(String(160), primary_key=True)
    order_id: Mapped[str] = mapped_column(String(64), index=True)
    kind: Mapped[str] = mapped_column(String(8))
    """``book``, ``cancel`` or ``void``."""
    tracking_number: Mapped[str] = mapped_column(String(64))


class Carrier(Protocol):
    """What CloudMart needs of a carrier. Every call may be repeated with its key; the first answer holds.

    Raises StepRejected when the carrier says no, and StepUnavailable when there is no telling what it did.
    """

    def book(self, key: str, order_id: str, address: str) -> str:
        """Book a pick-up; returns the tracking number."""

    def void(self, key: str, order_id: str) -> str | None:
        """Cancel what was booked under a key, or see to it that a late booking under it is refused.

        Returns the cancelled tracking number, or None if nothing had been booked.
        """


class SimulatedCarrier:
    """A carrier that keeps its books in a table of its own."""

    def __init__(self, database: Database, line: Line) -> None:
        self._database = database
        self._line = line

    def book(self, key: str, order_id: str, address: str) -> str:
        """Book a pick-up; see Carrier."""
        if not address.strip():
            with self._line.call():
                raise StepRejected("the carrier needs an address")
        with ledger_transaction(self._database, self._line) as session:
            number = f"CM{new_id().replace('-', '')[-12:].upper()}"
            entry = insert_once(session, CarrierEntry, key, order_id=order_id, kind="book", tracking_number=number)
            if entry.kind != "book":
                raise StepRejected("the carrier refused a booking that was voided before")
            booked: str = entry.tracking_number
            return booked

    def void(self, key: str, order_id: str) -> str | None:
        """Cancel or refuse; see Carrier."""
        with ledger_transaction(self._database, self._line) as session:
            entry = insert_once(session, CarrierEntry, key, order_id=order_id, kind="void", tracking_number="")
            if entry.kind != "book":
                return None
            number: str = entry.tracking_number
            insert_once(
                session, CarrierEntry, f"{key}:cancel", order_id=order_id, kind="cancel", tracking_number=number
            )
            return number
