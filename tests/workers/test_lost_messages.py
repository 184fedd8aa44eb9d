"""Messages that a broker has lost, among workers of their own: found by what is served after them, or by a probe."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app import runtime
from app.runtime import Runtime
from tests.testkit import orders
from tests.testkit.shop import Shop
from tests.testkit.stacks import open_shop
from workflows.orders import Pattern

PATIENT = {"step_timeout_seconds": 300, "order_timeout_seconds": 300, "stall_seconds": 300}
"""Nothing is found by the time that it takes."""


def lose_orders(shop: Shop) -> list[str]:
    """Place an order in each pattern whose messages are lost; returns their sagas."""
    with using(shop.here), orders.losing(""):
        return [orders.order(pattern).saga_id for pattern in Pattern]


@contextmanager
def using(here: Runtime) -> Iterator[None]:
    """Use a shop's runtime in this process, unless it is in use already."""
    before = runtime.current()
    if before is here:
        yield
        return
    runtime.use(here)
    try:
        yield
    finally:
        runtime.use(before)


def settled(shop: Shop, saga_ids: list[str]) -> list[str]:
    return [shop.settle(saga_id)["status"] for saga_id in saga_ids]


@pytest.mark.parametrize("stack", ["memory", "postgresql+rabbitmq", "postgresql+redis"])
def test_what_is_lost_is_sent_again_within_seconds_whether_or_not_others_are_served(
    stack: str, seeded_database: Path, tmp_path: Path
) -> None:
    with open_shop(stack, seeded_database, tmp_path, **PATIENT) as shop:
        book = shop.add_book(stock=20)
        kinds = ("order", "order-choreography")
        assert settled(shop, [shop.order(book, saga_type=kind)["saga_id"] for kind in kinds]) == ["completed"] * 2

        lost = lose_orders(shop)
        later = [shop.order(book, saga_type=kind)["saga_id"] for kind in kinds]
        assert settled(shop, [*later, *lost]) == ["completed"] * 4

        assert settled(shop, lose_orders(shop)) == ["completed"] * 2  # nothing else is served
        assert shop.violations() == []
