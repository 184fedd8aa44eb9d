"""The payments service: charge and refund orders."""

from decimal import Decimal
from enum import StrEnum
from functools import cache

from pydantic import BaseModel
from sqlalchemy import Executable, String, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.database import Base, UuidText, dialect_of, insert_in, table_of
from app.ids import new_id
from app.messages import Event, EventType, number
from app.retention import RetentionRule
from app.saga.commands import command
from app.saga.definition import RetryPolicy
from tasks.gateways import payment_provider
from tasks.gateways.payment_provider import Receipt

PaymentCompleted = EventType("PaymentCompleted")
PaymentFailed = EventType("PaymentFailed")
PaymentRefunded = EventType("PaymentRefunded")
PaymentCancelled = EventType("PaymentCancelled")

RETRY = RetryPolicy.fixed(2)


class PaymentMethod(StrEnum):
    """The payment methods (seed 002)."""

    CREDIT_CARD = "credit_card"
    E_MONEY = "e_money"


class PaymentStatus(StrEnum):
    """The status of a payment: captured, declined, refunded, or never captured."""

    COMPLETED = "completed"
    FAILED = "failed"
    REFUNDED = "refunded"
    CANCELLED = "cancelled"


class Payment(Base):
    """An order's payment; ``transaction_id`` is the provider's."""

    __tablename__ = "payments"

    id: Mapped[str] = mapped_column(UuidText, primary_key=True)
    order_id: Mapped[str] = mapped_column(String(64), unique=True)
    amount: Mapped[Decimal]
    payment_method: Mapped[PaymentMethod] = mapped_column(String(32))
    status: Mapped[PaymentStatus] = mapped_column(String(16))
    transaction_id: Mapped[str | None] = mapped_column(String(64), index=True)


RETENTION = (RetentionRule(Payment, "order_id"),)


class Charge(BaseModel):
    """The part of an order that this service needs."""

    order_id: str
    total_amount: Decimal
    payment_method: PaymentMethod = PaymentMethod.CREDIT_CARD


def charge(order: Charge, key: str) -> Receipt:
    """Capture the order's amount."""
    return payment_provider().capture(key, order.order_id, order.total_amount, order.payment_method)


def void_charge(order: Charge, key: str) -> Receipt | None:
    """Refund the order's payment, or block a later capture."""
    return payment_provider().void(key, order.order_id)


def payment_failed(session: Session, order: Charge, reason: str, refund: Receipt | None = None) -> Event:
    """Record that the payment failed, or that it was captured after all and then refunded (``refund``)."""
    if refund:
        _record(session, order, PaymentStatus.REFUNDED, None)
    elif _payment(session, order.order_id) is None:
        _record(session, order, PaymentStatus.FAILED, None)
    return Event(PaymentFailed, {"order_id": order.order_id, "amount": number(order.total_amount), "reason": reason})


@command("payments.process_payment", call=charge, void=void_charge, on_rejected=payment_failed, retry=RETRY)
def process_payment(session: Session, order: Charge, receipt: Receipt) -> Event:
    """Record the captured payment."""
    _record(session, order, PaymentStatus.COMPLETED, receipt)
    return Event(PaymentCompleted, _money(order, receipt))


def refunded_by_hand(session: Session, order: Charge) -> Event | None:
    """Record that an operator made sure that the customer has the money: refunded, or never captured.

    Returns None, and records nothing, if the payment had failed or was refunded already.
    """
    payment = _payment(session, order.order_id)
    taken = payment is not None and payment.status == PaymentStatus.COMPLETED
    if payment and not taken:
        return None
    _record(session, order, PaymentStatus.REFUNDED if taken else PaymentStatus.CANCELLED, None)
    return Event(
        PaymentRefunded if taken else PaymentCancelled,
        {"order_id": order.order_id, "amount": number(order.total_amount)},
    )


@command("payments.refund_payment", call=void_charge, on_manual_completion=refunded_by_hand)
def refund_payment(session: Session, order: Charge, refund: Receipt | None) -> Event | None:
    """Record that the customer has the money: refunded (PaymentRefunded) or never captured (PaymentCancelled).

    Returns None, and records nothing, if the payment had failed anyway.
    """
    if refund:
        _record(session, order, PaymentStatus.REFUNDED, refund)
        return Event(PaymentRefunded, _money(order, refund))
    if _payment(session, order.order_id):
        return None
    _record(session, order, PaymentStatus.CANCELLED, None)
    return Event(PaymentCancelled, {"order_id": order.order_id, "amount": number(order.total_amount)})


def _record(session: Session, order: Charge, status: PaymentStatus, receipt: Receipt | None) -> None:
    taken = receipt if status is PaymentStatus.COMPLETED else None
    values = {
        "id": new_id(),
        "order_id": order.order_id,
        "amount": order.total_amount,
        "payment_method": order.payment_method,
        "status": status,
        "transaction_id": taken.transaction_id if taken else None,
    }
    session.connection().execute(_recorded(dialect_of(session)), values)


@cache
def _recorded(dialect: str) -> Executable:
    new = insert_in(dialect, table_of(Payment))
    # a captured payment keeps its transaction id, whatever its later status
    transaction_id = func.coalesce(new.excluded.transaction_id, Payment.transaction_id)
    changes = {"status": new.excluded.status, "transaction_id": transaction_id}
    return new.on_conflict_do_update(index_elements=["order_id"], set_=changes)


def _payment(session: Session, order_id: str) -> Payment | None:
    return session.scalar(select(Payment).where(Payment.order_id == order_id).with_for_update())


def _money(order: Charge, receipt: Receipt) -> dict[str, object]:
    return {"order_id": order.order_id, "amount": number(receipt.amount), "transaction_id": receipt.transaction_id}
