"""One run of chaos: orders arrive and blows fall, then everything is left alone until each order is settled."""

import logging
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from durable_sagas.models import SagaInstance
from tests.chaos import outcome, plan
from tests.chaos.client import Client
from tests.chaos.outcome import Report
from tests.chaos.plan import Blow, Wish
from tests.chaos.stack import Stack
from tests.testkit.private_servers import PrivatePostgresql
from tests.testkit.processes import wait_for

logger = logging.getLogger(__name__)

BOOKS = 5
SETTLING_PATIENCE_SECONDS = 180


class Chaos:
    """Strikes a stack while a client orders from it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.client = Client(stack.base_url, self._database_was_down_since)
        self.restarts: Counter[str] = Counter()
        self.stopping = threading.Event()
        self._locks = {name: threading.Lock() for name in stack.servers}
        self._database_is_back = 0.0

    def rage(self, wishes: Sequence[Wish], blows: Sequence[Blow]) -> None:
        """Place the orders and strike the blows, each at its moment; returns when both are through."""
        start = time.monotonic()
        with ThreadPoolExecutor(len(blows) + 1) as pool:
            try:
                works = [pool.submit(self._strike, start + blow.at, blow) for blow in blows]
                works.append(pool.submit(self.client.place_all, wishes, self.stopping))
                for work in as_completed(works):
                    work.result()
            finally:
                self.stopping.set()  # on Ctrl-C nothing must wait for its moment any longer

    def settle(self) -> list[SagaInstance]:
        """Wait until nothing moves any more; returns what was stuck, after it was resumed and has settled too.

        Raises TimeoutError when something does not settle.
        """
        self._wait_until_settled()
        stuck = outcome.stuck_sagas(self.stack.shop)
        for saga in stuck:
            self.client.resume(saga.id)
        self._wait_until_settled()
        return stuck

    def _strike(self, moment: float, blow: Blow) -> None:
        if self.stopping.wait(max(0.0, moment - time.monotonic())):
            return
        logger.info("%s: %s, down for %.1f s", blow.target, blow.way, blow.pause)
        if blow.target not in self.stack.servers:
            self.stack.supervisor.strike(blow.target, blow.way, lambda: self.stopping.wait(blow.pause))
            return
        server, is_database = self.stack.servers[blow.target], blow.target == PrivatePostgresql.NAME
        with self._locks[blow.target]:
            self.restarts[f"{blow.target} {blow.way}"] += 1
            if is_database:
                self._database_is_back = math.inf
            server.down(blow.way)
            self.stopping.wait(blow.pause)
            server.start()
            if is_database:
                self._database_is_back = time.monotonic()

    def _database_was_down_since(self, moment: float) -> bool:
        """Return whether a request sent at a moment may have met no database; for nothing else may it be refused."""
        return moment < self._database_is_back

    def _wait_until_settled(self) -> None:
        shop = self.stack.shop
        # a long queue may take its time, as long as it becomes shorter
        while left := outcome.unsettled(shop):
            wait_for(
                f"any of {left} sagas to settle",
                lambda left=left: outcome.unsettled(shop) < left,  # type: ignore[misc]
                SETTLING_PATIENCE_SECONDS,
            )


def run(stack: Stack, seed: int, orders: int, kills: int) -> Report:
    """Let chaos reign over a running stack, as the seed says; returns what came of it."""
    rng = random.Random(seed)
    seconds = plan.duration(orders, kills, stack.seconds_per_blow)
    wishes = plan.wishes(rng, add_books(stack, 10 * orders), orders, seconds)
    return unleash(stack, wishes, plan.blows(rng, stack.targets, kills, seconds), f"seed {seed}")


def add_books(stack: Stack, stock: int) -> list[str]:
    """Put books on the shelf that nobody else orders; returns their ids."""
    return [stack.shop.add_book(stock) for _ in range(BOOKS)]


def unleash(stack: Stack, wishes: Sequence[Wish], blows: Sequence[Blow], title: str) -> Report:
    """Place these orders while these blows fall, then wait until everything is settled; returns what came of it."""
    start = time.monotonic()
    client, shop, supervisor = (chaos := Chaos(stack)).client, stack.shop, stack.supervisor
    kills, ended_before = supervisor.kills.copy(), supervisor.ended_by_themselves.copy()
    lost, redriven = lost_messages(stack), outcome.redriven(stack.folder)
    chaos.rage(wishes, blows)
    stuck: list[SagaInstance] = []
    violations: list[str] = []
    try:
        stuck += chaos.settle()
    except TimeoutError as error:
        violations.append(str(error))
    keys = {wish.key for wish in wishes}
    ended = [order for order in outcome.ended_orders(shop) if order.key in keys]
    violations += [*client.finds, *outcome.judge(wishes, client.order_ids, ended), *outcome.stuck_forward(stuck)]
    violations += [*outcome.orders_without_a_key(shop), *shop.violations()]
    return Report(
        title=f"{stack.name}, {title}, {len(blows)} blows, {time.monotonic() - start:.0f} s",
        counts={
            "orders": Counter(order.status for order in ended),
            "stuck, and resumed": Counter(str(saga.stuck_reason) for saga in stuck),
            "kills": supervisor.kills - kills,
            "restarts of servers": chaos.restarts,
            "undone though healthy": outcome.healthy_undone(wishes, ended),
            "ended by themselves": supervisor.ended_by_themselves - ended_before,
            "requests sent again": Counter(client.repeats),
        },
        numbers={
            "longest seconds to settle": max((round(order.seconds) for order in ended), default=0),
            outcome.REDRIVEN: outcome.redriven(stack.folder) - redriven,
            outcome.LOST: lost_messages(stack) - lost,
        },
        violations=violations,
    )


def lost_messages(stack: Stack) -> int:
    return sum(server.lost_messages for server in stack.servers.values())
