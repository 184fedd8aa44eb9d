"""Workers of one process each, which do together what waits together, on real servers and under kills."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from durable_sagas.messaging.batcher import MAX_BATCH
from tests.testkit.processes import SHOWN_OF_A_LOG, kill_group, process_environment, role_commands, spawn
from tests.testkit.shop import Shop
from tests.testkit.stacks import open_shop
from workflows import QUEUES

SAGA_TYPES = ("order", "order-payment-first", "order-choreography")
ORDERS = 90
STOCK = 66
"""Copies of the book that is scarce; each order wants one of it and one of the other."""

KILLS = (120, 300)
"""At how many events a worker is killed. There are some 480 in the end."""

WORKERS = 2


class Workers:
    """Worker processes that take from all queues."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        self._settings = shop.here.settings
        self._environment = process_environment(self._settings)
        self._log = folder / "workers.log"
        self._running = [self._start() for _ in range(WORKERS)]

    def kill_one(self) -> None:
        """Kill a worker as it stands, and start another."""
        kill_group(self._running.pop(0))
        self._running.append(self._start())

    def end(self) -> None:
        """Kill them all."""
        for process in self._running:
            kill_group(process)

    def log(self) -> str:
        """Return what they have written."""
        return self._log.read_text(errors="replace")

    def _start(self) -> "subprocess.Popen[bytes]":
        every = ",".join(QUEUES)
        [command] = [role_commands(self._settings, queues=[every])[every]]
        options = ["--pool", "solo", "-c", "1", "--prefetch-multiplier", str(MAX_BATCH)]
        return spawn([*command, *options], self._environment, self._log)


@contextmanager
def working(shop: Shop, folder: Path) -> Iterator[Workers]:
    workers = Workers(shop, folder)
    try:
        yield workers
    except BaseException:
        sys.stdout.write(workers.log()[-SHOWN_OF_A_LOG:])
        raise
    finally:
        workers.end()


def place(shop: Shop, number: int, books: tuple[str, str]) -> None:
    """Place an order for both books; every other one names them the other way round."""
    named = books if number % 2 else books[::-1]
    items = [{"product_id": book, "quantity": 1} for book in named]
    body = {"customer_id": "customer-001", "items": items, "saga_type": SAGA_TYPES[number % 3]}
    assert shop.post("/api/v1/orders", body).status == 202


def count(shop: Shop, what: str) -> int:
    return int(shop.rows(f"SELECT count(*) FROM {what}")[0][0])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("stack", ["postgresql+rabbitmq", "postgresql+redis"])
def test_orders_that_are_done_together_end_as_if_each_had_been_alone(
    stack: str, seeded_database: Path, tmp_path: Path
) -> None:
    # an order is to be refused for want of stock, and never because it waited
    patient = {"step_timeout_seconds": 300, "order_timeout_seconds": 300, "fault_injection": False}
    with open_shop(stack, seeded_database, tmp_path, queues=(), **patient) as shop:
        scarce, plenty = shop.add_book(STOCK), shop.add_book(ORDERS)
        for number in range(ORDERS):
            place(shop, number, (scarce, plenty))

        with working(shop, tmp_path) as workers:
            for events in KILLS:
                shop.wait_for(partial(count, shop, "events"), events.__le__)
                workers.kill_one()
            shop.wait_for(lambda: count(shop, "notifications"), lambda told: told >= ORDERS)
            unsettled = "saga_instances WHERE status NOT IN ('completed', 'compensated')"
            shop.wait_for(lambda: count(shop, unsettled), lambda left: left == 0)

        ended = shop.rows("SELECT status, count(*) FROM saga_instances GROUP BY status")
        assert dict(ended) == {"completed": STOCK, "compensated": ORDERS - STOCK}
        assert count(shop, "notifications") == ORDERS
        assert (shop.stock(scarce), shop.stock(plenty)) == ((0, 0), (ORDERS - STOCK, 0))
        assert shop.violations() == []
        # a row keeps the number of its transaction: one that does a single message writes a single event
        [[events, transactions]] = shop.rows("SELECT count(*), count(DISTINCT xmin::text) FROM events")
        assert transactions < 0.9 * events
        # a worker that is gone has told what it knew of deadlocks
        [[deadlocks]] = shop.rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert deadlocks == 0
