"""The broker is away for longer than any deadline: what was accepted meanwhile is done as soon as it is back."""

import time

from tests.chaos.conftest import OpenStack
from tests.testkit.private_servers import KILL
from tests.testkit.processes import wait_for

SAGA_TYPES = ("order", "order-payment-first", "order-choreography")
DEADLINE_SECONDS = 8


def test_orders_accepted_while_the_broker_is_away_are_done_when_it_is_back(start: OpenStack) -> None:
    stack = start("redis", step_timeout_seconds=DEADLINE_SECONDS, order_timeout_seconds=DEADLINE_SECONDS)
    book = stack.shop.add_book(stock=3)
    stack.servers["redis"].down(KILL)

    placed = [stack.shop.order(book, saga_type=saga_type) for saga_type in SAGA_TYPES]
    too_late = time.monotonic() + DEADLINE_SECONDS
    wait_for("every deadline to pass", lambda: time.monotonic() > too_late)
    assert {stack.shop.saga(order["saga_id"])["deadline_at"] for order in placed} == {None}
    stack.servers["redis"].start()

    assert [stack.shop.settle(order["saga_id"])["status"] for order in placed] == ["completed"] * 3
    assert stack.shop.violations() == []
