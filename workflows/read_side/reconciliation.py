"""Reconcile an order's money, stock and parcel with what its saga should have moved.

Movements are read at their source: the payment provider's and the carrier's own ledgers, and the inventory's
reservations. A manual completion recorded by an operator is trusted for the first two, as in the audit.
"""

from collections.abc import Iterable
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
from workflows.read_side.saga_history import HistoryEntry


class BalanceStatus(StrEnum):
    """Whether a balance is as the saga's outcome requires."""

    OPEN = "open"
    """The saga is still active, so the balance is not final."""
    RIGHT = "right"
    OUT = "out"
    """The saga is stuck, and something is still to be executed or compensated."""
    WRONG = "wrong"


@dataclass(frozen=True)
class Money:
    """Captured and refunded amounts; ``by_hand`` is the amount recorded as refunded manually."""

    total: Decimal
    charged: Decimal
    refunded: Decimal
    by_hand: Decimal
    verdict: BalanceStatus

    @property
    def net(self) -> Decimal:
        """The amount that the customer has paid in the end."""
        return self.charged - self.refunded - self.by_hand


@dataclass(frozen=True)
class Stock:
    """Numbers of copies over all books of the order; ``reserved`` counts every copy ever reserved."""

    ordered: int
    reserved: int
    released: int
    shipped: int
    verdict: BalanceStatus

    @property
    def held(self) -> int:
        """The copies still reserved for the order."""
        return self.reserved - self.released - self.shipped


@dataclass(frozen=True)
class Parcel:
    """Numbers of carrier bookings; ``by_hand`` counts those recorded as cancelled manually."""

    booked: int
    cancelled: int
    by_hand: int
    verdict: BalanceStatus

    @property
    def live(self) -> int:
        """The bookings still in effect, whose parcels the carrier will fetch."""
        return self.booked - self.cancelled - self.by_hand


@dataclass(frozen=True)
class Balance:
    """Money, stock and parcel of an order; if ``undoing``, the saga compensates, and each must net to zero."""

    money: Money
    stock: Stock
    parcel: Parcel
    undoing: bool

    @property
    def verdict(self) -> BalanceStatus:
        """The worst of the three verdicts."""
        verdicts = {self.money.verdict, self.stock.verdict, self.parcel.verdict}
        return next(
            found
            for found in (BalanceStatus.WRONG, BalanceStatus.OUT, BalanceStatus.OPEN, BalanceStatus.RIGHT)
            if found in verdicts
        )


def of(view: SagaView) -> Balance | None:
    """Return the balance of a saga's order, or None if the order does not exist."""
    saga = view.saga
    undoing = saga.state == COMPENSATION_STARTED or saga.status == SagaStatus.COMPENSATED
    paid_by_hand = _by_hand(view.operations, process_payment.short_name)
    unbooked_by_hand = _by_hand(view.operations, arrange_shipping.short_name)
    with runtime.current().database.reading() as session:
        ordered = session.execute(_ORDERED.where(Order.id == saga.aggregate_id)).one_or_none()
        if ordered is None:
            return None
        total, copies = ordered
        return Balance(
            money=_money(session, saga, total, undoing, paid_by_hand),
            stock=_stock(session, saga, copies, undoing),
            parcel=_parcel(session, saga, undoing, unbooked_by_hand),
            undoing=undoing,
        )


_ORDERED = select(Order.total_amount, func.sum(OrderItem.quantity)).join(OrderItem).group_by(Order.id)


def _by_hand(operations: Iterable[HistoryEntry], step: str) -> bool:
    return any(logged.step == step and logged.done_by for logged in operations)


def _money(session: Session, saga: SagaInstance, total: Decimal, undoing: bool, by_hand: bool) -> Money:
    entries = select(PaymentProviderEntry.kind, PaymentProviderEntry.amount)
    moved = {"capture": Decimal(0), "refund": Decimal(0), "void": Decimal(0)}
    for kind, amount in session.execute(entries.where(PaymentProviderEntry.order_id == saga.aggregate_id)):
        moved[kind] += amount
    left = moved["capture"] - moved["refund"]
    given = left if by_hand else Decimal(0)
    right = left - given == (0 if undoing else total)
    return Money(total, moved["capture"], moved["refund"], given, _verdict(saga, right))


def _stock(session: Session, saga: SagaInstance, ordered: int, undoing: bool) -> Stock:
    quantities = dict.fromkeys(ReservationStatus, 0)
    kept = select(StockReservation.status, StockReservation.quantity)
    for status, quantity in session.execute(kept.where(StockReservation.order_id == saga.aggregate_id)):
        quantities[ReservationStatus(status)] += quantity
    held, shipped = quantities[ReservationStatus.RESERVED], quantities[ReservationStatus.SHIPPED]
    right = held == 0 and shipped == (0 if undoing else ordered)
    released = quantities[ReservationStatus.RELEASED]
    return Stock(ordered, sum(quantities.values()), released, shipped, _verdict(saga, right))


def _parcel(session: Session, saga: SagaInstance, undoing: bool, by_hand: bool) -> Parcel:
    told = list(session.scalars(select(CarrierEntry.kind).where(CarrierEntry.order_id == saga.aggregate_id)))
    left = told.count("book") - told.count("cancel")
    cancelled = left if by_hand else 0
    right = left - cancelled == (0 if undoing else 1)
    return Parcel(told.count("book"), told.count("cancel"), cancelled, _verdict(saga, right))


def _verdict(saga: SagaInstance, right: bool) -> BalanceStatus:
    if saga.status in ACTIVE:
        return BalanceStatus.OPEN
    if right:
        return BalanceStatus.RIGHT
    return BalanceStatus.OUT if saga.status == SagaStatus.STUCK else BalanceStatus.WRONG
