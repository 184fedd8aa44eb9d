"""A message that calls a reaction about an event it does not wait for is dropped: it could undo a healthy order."""

import logging

import pytest
from sqlalchemy import text

from app import runtime
from app.celery import app as celery
from app.sagas import sagas
from durable_sagas.ids import new_id
from tasks import orders
from tests.testkit.messages import Post, run
from tests.testkit.shop import UNKNOWN_ID
from workflows.operations.audit import audit
from workflows.order_choreography import ORDER_CHOREOGRAPHY
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place

REACTIONS = [
    "payments.refund_on_failure",
    "inventory.release_on_failure",
    "shipping.settle_on_time_out_or_cancel_request",
    "orders.cancel_when_settled",
]


def order(pattern: Pattern) -> PlacedOrder:
    return place(NewOrder((Item("book-789", 1),), pattern))


def first_event(placed: PlacedOrder) -> str:
    query = text("SELECT id FROM events WHERE aggregate_id = :id ORDER BY sequence LIMIT 1")
    with runtime.current().database.reading() as session:
        return str(session.scalars(query, {"id": placed.order_id}).one())


def status(placed: PlacedOrder) -> str:
    with runtime.current().database.reading() as session:
        return str(session.scalar(text("SELECT status FROM orders WHERE id = :id"), {"id": placed.order_id}))


@pytest.mark.parametrize("reaction", REACTIONS)
@pytest.mark.parametrize("pattern", list(Pattern))
def test_a_reaction_is_deaf_to_the_events_of_others(
    post: Post, caplog: pytest.LogCaptureFixture, reaction: str, pattern: Pattern
) -> None:
    assert reaction not in sagas.events.subscribers(orders.OrderCreated, ORDER_CHOREOGRAPHY.name)
    placed = order(pattern)
    post.deliver_all()
    event_id = first_event(placed)

    with caplog.at_level(logging.WARNING):
        run(celery.signature(reaction, kwargs={"saga_id": placed.saga_id, "event_id": event_id}))
    post.deliver_all()

    assert status(placed) == "completed"
    assert list(audit()) == []
    assert "message for no known event, dropped" in caplog.text


def test_a_reaction_is_deaf_to_an_order_of_the_other_pattern(post: Post) -> None:
    placed = order(Pattern.ORCHESTRATION)
    post.deliver("orders.create_order")

    run(
        celery.signature(
            "inventory.reserve_on_order_created",
            kwargs={"saga_id": placed.saga_id, "event_id": first_event(placed)},
        )
    )
    post.deliver_all()

    assert status(placed) == "completed"
    assert list(audit()) == []


@pytest.mark.parametrize("event_id", ["", "no uuid", "\0", UNKNOWN_ID])
def test_a_listener_drops_what_never_happened(post: Post, caplog: pytest.LogCaptureFixture, event_id: str) -> None:
    forged = celery.signature("notifications.notify_customer", kwargs={"saga_id": new_id(), "event_id": event_id})

    with caplog.at_level(logging.WARNING):
        run(forged)

    assert "message for no known event, dropped" in caplog.text


@pytest.mark.parametrize("saga_id", ["", "no uuid", "\0", UNKNOWN_ID])
def test_a_request_to_undo_no_saga_is_dropped(post: Post, caplog: pytest.LogCaptureFixture, saga_id: str) -> None:
    with caplog.at_level(logging.WARNING):
        run(celery.signature("orchestrator.request_compensation", kwargs={"saga_id": saga_id}))

    assert "message for no known saga, dropped" in caplog.text
