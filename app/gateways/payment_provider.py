"""The payment provider."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base, Database
from app.errors import StepRejected
from app.gateways.ledger import insert_once, ledger_transaction
from app.gateways.line import Line
from app.ids import new_id

DECLINED_AMOUNT = Decimal(999999)
"""The amount that the simulated provider always declines (seed 000)."""


class PaymentProviderEntry(Base):
    """One line of the provider's books: money captured, money refunded, or a key that may not be used any more."""

    __tablename__ = "payment_provider_ledger"

    idempotency_key: Mapped[str] = mapped_column(String(160), primary_key=True)
    order_id: Mapped[str] = mapped_column(String(64), index=True)
    kind: Mapped[str] = mapped_column(String(8))
    """``capture``, ``refund`` or ``void``."""
    amount: Mapped[Decimal]
    transaction_id: Mapped[str] = mapped_column(String(64))


@dataclass(frozen=True)
class Receipt:
    """The provider's answer: what it moved, and its number for that."""

    transaction_id: str
    amount: Decimal


class PaymentProvider(Protocol):
    """What CloudMart needs of a provider. Every call may be repeated with its key; the first answer holds.

    Raises StepRejected when the provider says no, and StepUnavailable when there is no telling what it did.
    """

    def capture(self, key: str, order_id: str, amount: Decimal, method: str) -> Receipt:
        """Take the money."""

    def void(self, key: str, order_id: str) -> Receipt | None:
        """Give back what was captured under a key, or see to it that a late capture under it is refused.

        Returns the refund, or None if nothing had been captured.
        """


class SimulatedPaymentProvider:
    """A provider that keeps its books in a table of its own and declines one amount."""

    def __init__(self, database: Database, line: Line) -> None:
        self._database = database
        self._line = line

    def capture(self, key: str, order_id: str, amount: Decimal, method: str) -> Receipt:
        """Take the money; see PaymentProvider."""
        if amount == DECLINED_AMOUNT:
            with self._line.call():
                raise StepRejected(f"the provider declined the {method} payment of {amount}")
        with ledger_transaction(self._database, self._line) as session:
            entry = insert_once(
                session,
                PaymentProviderEntry,
                key,
                order_id=order_id,
                kind="capture",
                amount=amount,
                transaction_id=f"txn-{new_id()}",
            )
            if entry.kind != "capture":
                raise StepRejected("the provider refused a payment that was voided before")
            return Receipt(entry.transaction_id, entry.amount)

    def void(self, key: str, order_id: str) -> Receipt | None:
        """Refund or refuse; see PaymentProvider."""
        with ledger_transaction(self._database, self._line) as session:
            entry = insert_once(
                session,
                PaymentProviderEntry,
                key,
                order_id=order_id,
                kind="void",
                amount=Decimal(0),
                transaction_id="",
            )
            if entry.kind != "capture":
                return None
            refund = insert_once(
                session,
                PaymentProviderEntry,
                f"{key}:refund",
                order_id=order_id,
                kind="refund",
                amount=entry.amount,
                transaction_id=f"ref-{new_id()}",
            )
            return Receipt(refund.transaction_id, refund.amount)
