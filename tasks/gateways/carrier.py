"""The carrier, simulated."""

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base
from app.database.statements import insert_once
from app.errors import StepRejected
from durable_sagas.ids import new_id
from tasks.gateways.simulation import SimulatedGateway


class CarrierEntry(Base):
    """An entry of the carrier's ledger: a booking, its cancellation, or a voided key."""

    __tablename__ = "carrier_ledger"

    idempotency_key: Mapped[str] = mapped_column(String(160), primary_key=True)
    order_id: Mapped[str] = mapped_column(String(64), index=True)
    kind: Mapped[str] = mapped_column(String(8))
    """``book``, ``cancel`` or ``void``."""
    tracking_number: Mapped[str] = mapped_column(String(64))


class SimulatedCarrier(SimulatedGateway):
    """A carrier. Every call is idempotent by its key; the first result holds.

    Raises StepRejected when the carrier rejects the call, and StepUnavailable when its outcome is unknown.
    """

    def book(self, key: str, order_id: str, address: str) -> str:
        """Book a pick-up; return the tracking number."""
        if not address.strip():
            with self.call():
                raise StepRejected("the carrier needs an address")
        with self.ledger_transaction() as session:
            number = f"CM{new_id().replace('-', '')[-12:].upper()}"
            entry = insert_once(session, _entry(key, order_id, "book", number))
            if entry.kind != "book":
                raise StepRejected("the carrier refused a booking that was voided before")
            return entry.tracking_number

    def void(self, key: str, order_id: str) -> str | None:
        """Cancel the booking made with a key, or reject a later one with it.

        Return the cancelled tracking number, or None if there was no booking.
        """
        with self.ledger_transaction() as session:
            entry = insert_once(session, _entry(key, order_id, "void"))
            if entry.kind != "book":
                return None
            insert_once(session, _entry(f"{key}:cancel", order_id, "cancel", entry.tracking_number))
            return entry.tracking_number


def _entry(key: str, order_id: str, kind: str, tracking_number: str = "") -> CarrierEntry:
    return CarrierEntry(idempotency_key=key, order_id=order_id, kind=kind, tracking_number=tracking_number)
