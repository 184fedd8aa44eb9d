"""The shipping service: book and cancel the carrier's pick-ups."""

from enum import StrEnum

from pydantic import BaseModel
from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.database import Base, UuidText
from app.database.statements import upsert
from app.sagas import sagas
from durable_sagas.definition import RetryPolicy
from durable_sagas.ids import new_id
from durable_sagas.messages import Event, EventType
from tasks.gateways import carrier
from tasks.retention import RetentionRule

ShippingArranged = EventType("ShippingArranged")
ShippingFailed = EventType("ShippingFailed")
ShippingCancelled = EventType("ShippingCancelled")

RETRY = RetryPolicy.exponential(3)


class ShipmentStatus(StrEnum):
    """The status of a shipment."""

    ARRANGED = "arranged"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Shipment(Base):
    """An order's shipment; ``tracking_number`` is the carrier's."""

    __tablename__ = "shipments"

    id: Mapped[str] = mapped_column(UuidText, primary_key=True)
    order_id: Mapped[str] = mapped_column(String(64), unique=True)
    shipping_address: Mapped[str] = mapped_column(Text)
    tracking_number: Mapped[str | None] = mapped_column(String(64), index=True)
    status: Mapped[ShipmentStatus] = mapped_column(String(16))


RETENTION = (RetentionRule(Shipment, "order_id"),)


class Parcel(BaseModel):
    """The part of an order that this service needs."""

    order_id: str
    shipping_address: str


def book_carrier(parcel: Parcel, key: str) -> str:
    """Book the carrier's pick-up; return its tracking number."""
    return carrier().book(key, parcel.order_id, parcel.shipping_address)


def unbook_carrier(parcel: Parcel, key: str) -> str | None:
    """Cancel the carrier's booking, or block a later one."""
    return carrier().void(key, parcel.order_id)


def shipping_failed(session: Session, parcel: Parcel, reason: str, cancelled: str | None = None) -> Event:
    """Record that the booking failed, or that it was made after all and then cancelled (``cancelled``)."""
    _record(session, parcel, ShipmentStatus.CANCELLED if cancelled else ShipmentStatus.FAILED, cancelled)
    return Event(ShippingFailed, {"order_id": parcel.order_id, "reason": reason})


@sagas.command(
    "shipping.arrange_shipping", call=book_carrier, void=unbook_carrier, on_rejected=shipping_failed, retry=RETRY
)
def arrange_shipping(session: Session, parcel: Parcel, tracking_number: str) -> Event:
    """Record the carrier's booking: the point of no return."""
    _record(session, parcel, ShipmentStatus.ARRANGED, tracking_number)
    return Event(ShippingArranged, {"order_id": parcel.order_id, "tracking_number": tracking_number})


def record_manual_cancellation(session: Session, parcel: Parcel) -> Event:
    """Record that the carrier's booking was cancelled manually."""
    _record(session, parcel, ShipmentStatus.CANCELLED, None)
    return Event(ShippingCancelled, {"order_id": parcel.order_id, "tracking_number": None})


@sagas.command("shipping.cancel_shipment", call=unbook_carrier, on_manual_completion=record_manual_cancellation)
def cancel_shipment(session: Session, parcel: Parcel, cancelled: str | None) -> Event | None:
    """Record that the booking is cancelled. Returns None, and records nothing, if there was none."""
    if cancelled is None:
        return None
    _record(session, parcel, ShipmentStatus.CANCELLED, cancelled)
    return Event(ShippingCancelled, {"order_id": parcel.order_id, "tracking_number": cancelled})


def _record(session: Session, parcel: Parcel, status: ShipmentStatus, tracking_number: str | None) -> None:
    """Insert the order's shipment, or change its status; a booked shipment keeps its tracking number."""
    shipment = Shipment(
        id=new_id(),
        order_id=parcel.order_id,
        shipping_address=parcel.shipping_address,
        tracking_number=tracking_number,
        status=status,
    )
    upsert(session, shipment, key="order_id", keep=("id", "tracking_number"))
