"""Reconcile an order's money, stock and parcel with what its saga should have moved.

Movements are read at their source: the payment provider's and the carrier's own ledgers, and the inventory's
reservations. A manual completion recorded by an operator is trusted for the first two, as in the audit.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import runtime
from durable_sagas.definition import ACTIVE, COMPENSATION_STARTED, SagaStatus
from durable_sagas.models import SagaInstance
from tasks.gateways.carrier import CarrierEntry
from tasks.gateways.payment_provider import PaymentProviderEntry
from tasks.inventory import ReservationStatus, StockReservation
from tasks.orders import Order, OrderItem
from tasks.payments import process_payment
from tasks.shipping import arrange_shipping
from workflows.read_side.queries import SagaView


class BalanceStatus(StrEnum):
    """Whether a balance is as the saga's outcome requires; from the best to the worst."""

    BALANCED = "balanced"
    PENDING = "pending"
    """The saga is still active, so the balance is not final."""
    OUTSTANDING = "outstanding"
    """The saga is stuck, and something is still to be executed or compensated."""
    MISMATCH = "mismatch"


@dataclass(frozen=True)
class MoneyBalance:
    """Captured and refunded amounts; ``refunded_manually`` is the amount recorded as refunded manually."""

    total: Decimal
    charged: Decimal
    refunded: Decimal
    refunded_manually: Decimal
    status: BalanceStatus

    @property
    def net(self) -> Decimal:
        """The amount that the customer has paid in the end."""
        return self.charged - self.refunded - self.refunded_manually


@dataclass(frozen=True)
class Stock:
    """Numbers of copies over all books of the order; ``reserved`` counts every copy ever reserved."""

    ordered: int
    reserved: int
    released: int
    shipped: int
    status: BalanceStatus

    @property
    def held(self) -> int:
        """The copies still reserved for the order."""
        return self.reserved - self.released - self.shipped


@dataclass(frozen=True)
class ParcelBalance:
    """Numbers of carrier bookings; ``cancelled_manually`` counts those recorded as cancelled manually."""

    booked: int
    cancelled: int
    cancelled_manually: int
    status: BalanceStatus

    @property
    def active(self) -> int:
        """The bookings still in effect, whose parcels the carrier will fetch."""
        return self.booked - self.cancelled - self.cancelled_manually


@dataclass(frozen=True)
class Balance:
    """Money, stock and parcel of an order; if ``compensating``, the saga compensates, and each must net to zero."""

    money: MoneyBalance
    stock: Stock
    parcel: ParcelBalance
    compensating: bool

    @property
    def status(self) -> BalanceStatus:
        """The worst of the three statuses."""
        statuses = (self.money.status, self.stock.status, self.parcel.status)
        return max(statuses, key=list(BalanceStatus).index)


def of(view: SagaView) -> Balance | None:
    """Return the balance of a saga's order, or None if the order does not exist."""
    saga = view.saga
    compensating = saga.state == COMPENSATION_STARTED or saga.status == SagaStatus.COMPENSATED
    manual = {logged.step for logged in view.operations if logged.done_by}
    with runtime.current().database.reading() as session:
        ordered = session.execute(_ORDERED.where(Order.id == saga.aggregate_id)).one_or_none()
        if ordered is None:
            return None
        total, copies = ordered
        return Balance(
            money=_money(session, saga, total, compensating, process_payment.short_name in manual),
            stock=_stock(session, saga, copies, compensating),
            parcel=_parcel(session, saga, compensating, arrange_shipping.short_name in manual),
            compensating=compensating,
        )


_ORDERED = select(Order.total_amount, func.sum(OrderItem.quantity)).join(OrderItem).group_by(Order.id)


def _money(
    session: Session, saga: SagaInstance, total: Decimal, compensating: bool, refunded_manually: bool
) -> MoneyBalance:
    entries = select(PaymentProviderEntry.kind, PaymentProviderEntry.amount)
    moved = {"capture": Decimal(0), "refund": Decimal(0), "void": Decimal(0)}
    for kind, amount in session.execute(entries.where(PaymentProviderEntry.order_id == saga.aggregate_id)):
        moved[kind] += amount
    left = moved["capture"] - moved["refund"]
    refunded = left if refunded_manually else Decimal(0)
    balanced = left - refunded == (0 if compensating else total)
    return MoneyBalance(total, moved["capture"], moved["refund"], refunded, _status(saga, balanced))


def _stock(session: Session, saga: SagaInstance, ordered: int, compensating: bool) -> Stock:
    quantities = dict.fromkeys(ReservationStatus, 0)
    reservations = select(StockReservation.status, StockReservation.quantity)
    for status, quantity in session.execute(reservations.where(StockReservation.order_id == saga.aggregate_id)):
        quantities[ReservationStatus(status)] += quantity
    held, shipped = quantities[ReservationStatus.RESERVED], quantities[ReservationStatus.SHIPPED]
    balanced = held == 0 and shipped == (0 if compensating else ordered)
    released = quantities[ReservationStatus.RELEASED]
    return Stock(ordered, sum(quantities.values()), released, shipped, _status(saga, balanced))


def _parcel(session: Session, saga: SagaInstance, compensating: bool, cancelled_manually: bool) -> ParcelBalance:
    kinds = list(session.scalars(select(CarrierEntry.kind).where(CarrierEntry.order_id == saga.aggregate_id)))
    left = kinds.count("book") - kinds.count("cancel")
    cancelled = left if cancelled_manually else 0
    balanced = left - cancelled == (0 if compensating else 1)
    return ParcelBalance(kinds.count("book"), kinds.count("cancel"), cancelled, _status(saga, balanced))


def _status(saga: SagaInstance, balanced: bool) -> BalanceStatus:
    if saga.status in ACTIVE:
        return BalanceStatus.PENDING
    if balanced:
        return BalanceStatus.BALANCED
    return BalanceStatus.OUTSTANDING if saga.status == SagaStatus.STUCK else BalanceStatus.MISMATCH
