"""The payment provider, simulated."""

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base
from app.database.statements import insert_once
from app.errors import StepRejected
from durable_sagas.ids import new_id
from tasks.gateways.simulation import SimulatedGateway

DECLINED_AMOUNT = Decimal(999999)
"""The amount that the simulated provider always declines (seed 000)."""


class PaymentProviderEntry(Base):
    """An entry of the provider's ledger: a capture, a refund, or a voided key."""

    __tablename__ = "payment_provider_ledger"

    idempotency_key: Mapped[str] = mapped_column(String(160), primary_key=True)
    order_id: Mapped[str] = mapped_column(String(64), index=True)
    kind: Mapped[str] = mapped_column(String(8))
    """``capture``, ``refund`` or ``void``."""
    amount: Mapped[Decimal]
    transaction_id: Mapped[str] = mapped_column(String(64))


@dataclass(frozen=True)
class Receipt:
    """The provider's result: the amount moved, and the transaction's id."""

    transaction_id: str
    amount: Decimal


class SimulatedPaymentProvider(SimulatedGateway):
    """A payment provider, which declines one amount. Every call is idempotent by its key; the first result holds.

    Raises StepRejected when the provider rejects the call, and StepUnavailable when its outcome is unknown.
    """

    def capture(self, key: str, order_id: str, amount: Decimal, method: str) -> Receipt:
        """Capture the amount."""
        if amount == DECLINED_AMOUNT:
            with self.call():
                raise StepRejected(f"the provider declined the {method} payment of {amount}")
        with self.ledger_transaction() as session:
            entry = insert_once(session, _entry(key, order_id, "capture", amount, f"txn-{new_id()}"))
            if entry.kind != "capture":
                raise StepRejected("the provider refused a payment that was voided before")
            return Receipt(entry.transaction_id, entry.amount)

    def void(self, key: str, order_id: str) -> Receipt | None:
        """Refund the capture made with a key, or reject a later one with it.

        Return the refund, or None if nothing was captured.
        """
        with self.ledger_transaction() as session:
            entry = insert_once(session, _entry(key, order_id, "void", Decimal(0)))
            if entry.kind != "capture":
                return None
            refund = insert_once(session, _entry(f"{key}:refund", order_id, "refund", entry.amount, f"ref-{new_id()}"))
            return Receipt(refund.transaction_id, refund.amount)


def _entry(key: str, order_id: str, kind: str, amount: Decimal, transaction_id: str = "") -> PaymentProviderEntry:
    return PaymentProviderEntry(
        idempotency_key=key, order_id=order_id, kind=kind, amount=amount, transaction_id=transaction_id
    )
