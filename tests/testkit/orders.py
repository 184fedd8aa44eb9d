"""Orders in whose course much happens, and a shop in which everything has happened that leaves a trace in a table."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app import runtime
from app.errors import Conflict
from app.runtime import Runtime
from app.sagas import sagas
from app.settings import Settings
from durable_sagas.manual_completion import ManualCompletion
from durable_sagas.messaging.publisher import Message, Publisher
from durable_sagas.models import SagaInstance
from durable_sagas.other_versions import OtherVersion
from tests.testkit.queues import reporting
from tests.testkit.stacks import in_process
from workflows import catalogue
from workflows.operations import operator_password
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place
from workflows.scenarios import SAGA_TYPES, SCENARIOS

PLAYED = {"success", "payment-declined", "carrier-failure", "answer-lost", "several-items", "stuck"}
AT_ONCE = [scenario for scenario in SCENARIOS if scenario.name in PLAYED]
STUCK = next(scenario for scenario in SCENARIOS if scenario.stuck)


def order(pattern: Pattern, book: str = "item-001", **simulate: str) -> PlacedOrder:
    """Place an order for one copy of a book, with a fault in some services."""
    return place(NewOrder((Item(book, 1),), pattern, simulate=tuple(simulate.items())))


@contextmanager
def eager(database_url: str) -> Iterator[Runtime]:
    """Be a shop on this database, with Celery eager, in which nothing is overdue."""
    patient: dict[str, Any] = {"stall_seconds": 3600, "step_timeout_seconds": 3600, "order_timeout_seconds": 3600}
    settings = Settings(database_url=database_url, broker_url="memory://", fault_injection=True, **patient)
    with in_process(settings, eager=True) as here:
        yield here


def fill() -> None:
    """Have everything happen, with Celery eager: orders of all kinds, some unfinished, and what operators do."""
    operator_password.generate()
    sagas.sweep()
    catalogue.restock("item-001", 50, by="Ann", key="delivery-1")
    for saga_type in SAGA_TYPES:
        with reporting():
            for scenario in AT_ONCE:
                place(scenario.order(saga_type), idempotency_key=f"{saga_type} {scenario.name}")
            sagas.report_progress()
        resumed, skipped = place(STUCK.order(saga_type)), place(STUCK.order(saga_type))
        sagas.resume(resumed.saga_id, by="Ann")
        sagas.skip(skipped.saga_id, ManualCompletion(by="Ann", note="paid back by bank transfer"))
    unfinished()


def unfinished() -> list[PlacedOrder]:
    """Place an order in each pattern whose messages are lost, and complete one whose customer is not told."""
    with losing(""):
        waiting = [order(pattern) for pattern in Pattern]
    with losing("notifications."):
        return [*waiting, order(Pattern.ORCHESTRATION)]


@contextmanager
def losing(tasks: str) -> Iterator[None]:
    """Lose every message whose task's name, or first task's of a chain, begins like this."""
    publish = Publisher.publish

    def lose(own: Publisher, message: Message) -> None:
        if not message.task_name.startswith(tasks):
            publish(own, message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Publisher, "publish", lose)
        yield


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


OLD_ORDERS = 20


def place_old_orders(here: Runtime) -> set[str]:
    """Place orders that look as if they had ended long ago, in both patterns; returns the ids of their sagas.

    The clock of a process of its own cannot be moved.
    """
    placed = [order(list(Pattern)[number % 2]) for number in range(OLD_ORDERS)]
    # an id tells when it was made; 0190 was in 2024
    uuid, as_uuid = ("{0}::text", "::uuid") if here.database.engine.dialect.name == "postgresql" else ("{0}", "")
    aged = f"('0190' || substr({uuid}, 5)){as_uuid}"
    with here.database.transaction() as session:
        session.execute(text(f"UPDATE saga_steps SET saga_id = {aged.format('saga_id')}"))
        before = f"{here.now() - timedelta(days=100):%Y-%m-%d %H:%M:%S.%f}"
        ended = f"UPDATE saga_instances SET id = {aged.format('id')}, updated_at = :before"
        session.execute(text(ended), {"before": before})
    return {f"0190{one.saga_id[4:]}" for one in placed}


def saga_ids(here: Runtime) -> set[str]:
    with here.database.reading() as session:
        return set(session.scalars(select(SagaInstance.id)))
