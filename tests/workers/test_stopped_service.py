"""A service whose worker is stopped: the order is undone when its deadline passes, and the late worker does no harm."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.testkit.processes import role_commands, roles
from tests.testkit.shop import Shop
from tests.testkit.stacks import open_shop
from workflows import QUEUES

SAGA_TYPES = ("order", "order-payment-first", "order-choreography")


@pytest.mark.timeout(180)
def test_a_stopped_service_is_undone_and_does_no_harm_when_it_is_back(seeded_database: Path, tmp_path: Path) -> None:
    others = ",".join(queue for queue in QUEUES if queue != "shipping")
    with open_shop("postgresql+rabbitmq", seeded_database, tmp_path, queues=[others]) as shop:
        book = shop.add_book(stock=4)
        placed = [shop.order(book, saga_type=saga_type) for saga_type in SAGA_TYPES]
        for order in placed:
            shop.wait_for(partial(turned_back, shop, order), bool)
        command = {"shipping": role_commands(shop.here.settings)["shipping"]}

        with roles(command, shop.here.settings, tmp_path):
            ended = [shop.settle(order["saga_id"])["status"] for order in placed]

            assert ended == ["compensated"] * 3
            assert shop.stock(book) == (4, 0)
            assert shop.violations() == []


def turned_back(shop: Shop, order: dict[str, Any]) -> bool:
    """Tell whether an order's deadline has passed and been acted upon, as far as its services are there."""
    events = shop.events(order["order_id"])
    return "OrderTimedOut" in events or shop.saga(order["saga_id"])["status"] == "compensating"
