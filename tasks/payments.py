"""The payments service: charge and refund orders."""

from decimal import Decimal
from enum import StrEnum

from pydantic import BaseModel
from sqlalchemy import String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.database import Base, UuidText
from app.database.statements import upsert
from app.sagas import sagas
from durable_sagas.definition import RetryPolicy
from durable_sagas.ids import new_id
from durable_sagas.messages import Event, EventType
from tasks.amounts import number
from tasks.gateways import payment_provider
from tasks.gateways.payment_provider import Receipt
from tasks.retention import RetentionRule

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
        _record(session, order, PaymentStatus.REFUNDED)
    elif _find_payment(session, order) is None:
        _record(session, order, PaymentStatus.FAILED)
    return Event(PaymentFailed, {**_amount(order), "reason": reason})


@sagas.command("payments.process_payment", call=charge, void=void_charge, on_rejected=payment_failed, retry=RETRY)
def process_payment(session: Session, order: Charge, receipt: Receipt) -> Event:
    """Record the captured payment."""
    _record(session, order, PaymentStatus.COMPLETED, receipt.transaction_id)
    return Event(PaymentCompleted, _receipt(order, receipt))


def record_manual_refund(session: Session, order: Charge) -> Event | None:
    """Record that an operator made sure that the customer has the money: refunded, or never captured.

    Returns None, and records nothing, if the payment had failed or was refunded already.
    """
    payment = _find_payment(session, order)
    if payment is None:
        return _record_cancellation(session, order)
    if payment.status != PaymentStatus.COMPLETED:
        return None
    _record(session, order, PaymentStatus.REFUNDED)
    return Event(PaymentRefunded, _amount(order))


@sagas.command("payments.refund_payment", call=void_charge, on_manual_completion=record_manual_refund)
def refund_payment(session: Session, order: Charge, refund: Receipt | None) -> Event | None:
    """Record that the customer has the money: refunded (PaymentRefunded) or never captured (PaymentCancelled).

    Returns None, and records nothing, if the payment had failed anyway.
    """
    if refund:
        _record(session, order, PaymentStatus.REFUNDED)
        return Event(PaymentRefunded, _receipt(order, refund))
    if _find_payment(session, order) is None:
        return _record_cancellation(session, order)
    return None


def _record_cancellation(session: Session, order: Charge) -> Event:
    _record(session, order, PaymentStatus.CANCELLED)
    return Event(PaymentCancelled, _amount(order))


def _find_payment(session: Session, order: Charge) -> Payment | None:
    return session.scalar(select(Payment).where(Payment.order_id == order.order_id).with_for_update())


def _record(session: Session, order: Charge, status: PaymentStatus, transaction_id: str | None = None) -> None:
    """Insert the order's payment, or change its status; a captured payment keeps its transaction's id."""
    payment = Payment(
        id=new_id(),
        order_id=order.order_id,
        amount=order.total_amount,
        payment_method=order.payment_method,
        status=status,
        transaction_id=transaction_id,
    )
    upsert(session, payment, key="order_id", keep=("id", "amount", "payment_method", "transaction_id"))


def _amount(order: Charge) -> dict[str, object]:
    return {"order_id": order.order_id, "amount": number(order.total_amount)}


def _receipt(order: Charge, receipt: Receipt) -> dict[str, object]:
    return {"order_id": order.order_id, "amount": number(receipt.amount), "transaction_id": receipt.transaction_id}
