"""Many orders at once, half of them failing somewhere: all end, and everything adds up."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.plan import DOOMED, HEALTHY, RECOVERING, SAGA_TYPES
from tests.testkit.shop import Shop
from tests.testkit.stacks import open_shop

FAILURES: list[dict[str, str]] = [*DOOMED[:8], RECOVERING[0], HEALTHY]


@pytest.fixture(params=["memory", "postgresql+rabbitmq", "postgresql+redis"])
def shop(request: pytest.FixtureRequest, seeded_database: Path, tmp_path: Path) -> Iterator[Shop]:
    """A CloudMart whose deadlines a long queue does not reach: what fails here fails because it was told to."""
    patient = {"step_timeout_seconds": 120, "order_timeout_seconds": 120, "stall_seconds": 30}
    with open_shop(str(request.param), seeded_database, tmp_path, **patient) as shop:
        yield shop


def test_two_hundred_orders_at_once(shop: Shop) -> None:
    book = shop.add_book(stock=500)

    def order(number: int) -> dict[str, Any]:
        simulate = FAILURES[number // 2 % len(FAILURES)] if number % 2 else {}
        # an orchestrated order can be declined by the orders service; a choreographed one is created with its row
        saga_type = "order" if "orders" in simulate else SAGA_TYPES[number % 3]
        return shop.order(book, saga_type=saga_type, simulate=simulate)

    with ThreadPoolExecutor(20) as clients:
        placed = list(clients.map(order, range(200)))
    ended = [shop.settle(order["saga_id"])["status"] for order in placed]

    # of the hundred that are to fail, ten recover and ten were not to fail after all
    assert (ended.count("completed"), ended.count("compensated")) == (120, 80)
    assert shop.stock(book) == (380, 0)
    assert shop.violations() == []
