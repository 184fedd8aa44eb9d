"""The notifications service: messages to customers."""

from datetime import datetime

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, Session, mapped_column

from app import runtime
from app.database import Base, UuidText
from durable_sagas.ids import new_id
from durable_sagas.messages import EventType
from tasks.retention import RetentionRule


class Notification(Base):
    """A message to a customer."""

    __tablename__ = "notifications"

    id: Mapped[str] = mapped_column(UuidText, primary_key=True)
    order_id: Mapped[str] = mapped_column(String(64), index=True)
    customer_id: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(64))
    message: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]


RETENTION = (RetentionRule(Notification, "order_id"),)


def notify(session: Session, kind: EventType, order_id: str, customer_id: str, message: str) -> None:
    """Notify a customer of an order's outcome."""
    session.add(
        Notification(
            id=new_id(),
            order_id=order_id,
            customer_id=customer_id,
            kind=kind,
            message=message,
            created_at=runtime.current().now(),
        )
    )
