"""A message that calls a reaction about an event it does not wait for is dropped: it could undo a healthy order.

Those about events and sagas that do not exist: see ``tests/workers/test_forged_messages.py``.
"""

import logging

import pytest

from app.celery import app as celery
from tests.testkit import stored
from tests.testkit.messages import Post, run
from tests.testkit.orders import order
from workflows.operations.audit import audit
from workflows.orders import Pattern

COMPENSATIONS = [
    "payments.refund_on_failure",
    "inventory.release_on_failure",
    "shipping.settle_on_time_out_or_cancel_request",
    "orders.cancel_when_settled",
]
FORGED = [(pattern, reaction) for pattern in Pattern for reaction in COMPENSATIONS]
OF_THE_OTHER_PATTERN = (Pattern.ORCHESTRATION, "inventory.reserve_on_order_created")


@pytest.mark.parametrize(("pattern", "reaction"), [*FORGED, OF_THE_OTHER_PATTERN])
@pytest.mark.parametrize("ended", [False, True])
def test_a_reaction_drops_an_event_that_it_does_not_wait_for(
    post: Post, caplog: pytest.LogCaptureFixture, pattern: Pattern, reaction: str, ended: bool
) -> None:
    placed = order(pattern)
    post.deliver(post.names()[0])
    if ended:
        post.deliver_all()
    first_event = "SELECT id FROM events WHERE aggregate_id = :id AND sequence = 1"
    (event_id,) = stored.column(first_event, id=placed.order_id)

    with caplog.at_level(logging.WARNING):
        run(celery.signature(reaction, kwargs={"saga_id": placed.saga_id, "event_id": event_id}))
    post.deliver_all()

    assert stored.saga(placed.saga_id).status == "completed"
    assert list(audit()) == []
    assert "message for no known event, dropped" in caplog.text
