"""An order in whose course nearly everything happens that can, and the tasks that it is made of."""

import pytest
from sqlalchemy.orm import Session

from app import runtime
from app.errors import Conflict
from app.saga.models import SagaInstance
from app.saga.other_versions import OtherVersion

BROKEN = {"payments": "fail:1", "shipping": "decline"}
"""One step is retried, and then everything is undone."""

TASKS = (
    "orders.create_order",
    "inventory.reserve_stock",
    "payments.process_payment",
    "shipping.arrange_shipping",
    "orchestrator.request_compensation",
    "shipping.cancel_shipment",
    "payments.refund_payment",
    "inventory.release_stock",
    "orders.cancel_order",
    "notifications.notify_customer",
)
"""What such an order is made of."""


def refuse_to_resume(saga_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a saga a driver that refuses to resume it."""

    def resume(_: OtherVersion, session: Session, saga: SagaInstance) -> None:
        raise Conflict("not this one")

    monkeypatch.setattr(OtherVersion, "resume", resume)
    with runtime.current().database.transaction() as session:
        session.get_one(SagaInstance, saga_id).saga_type = "retired"
