"""One run of chaos: orders arrive and blows fall, then everything is left alone until each order is settled."""

import logging
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from app.saga.models import SagaInstance
from tests.chaos import plan
from tests.chaos.client import Client
from tests.chaos.outcome import (
    ended_orders,
    healthy_undone,
    judge,
    orders_without_a_key,
    stuck_forward,
    stuck_sagas,
    unsettled,
)
from tests.chaos.plan import Blow, Wish
from tests.chaos.report import Report, read_logs
from tests.chaos.stack import Stack
from tests.testkit.private_servers import PrivatePostgresql
from tests.testkit.processes import wait_for

logger = logging.getLogger(__name__)

BOOKS = 5
SETTLING_PATIENCE_SECONDS = 180
BLOWS_AT_ONCE = 8


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
        with ThreadPoolExecutor(BLOWS_AT_ONCE + 1) as pool:
            try:
                placing = pool.submit(self.client.place_all, wishes, self.stopping)
                for strike in list(self._strikes(pool, blows)):
                    strike.result()
                placing.result()
            finally:
                self.stopping.set()  # on Ctrl-C nothing must wait for its moment any longer

    def settle(self) -> list[SagaInstance]:
        """Wait until nothing moves any more; returns what was stuck, after it was resumed and has settled too.

        Raises TimeoutError when something does not settle.
        """
        self._wait_until_settled()
        stuck = stuck_sagas(self.stack.shop)
        for saga in stuck:
            self.client.resume(saga.id)
        self._wait_until_settled()
        return stuck

    def _strikes(self, pool: ThreadPoolExecutor, blows: Sequence[Blow]) -> Iterator["Future[None]"]:
        start = time.monotonic()
        for blow in blows:
            if self.stopping.wait(max(0.0, start + blow.at - time.monotonic())):
                return
            yield pool.submit(self._strike, blow)

    def _strike(self, blow: Blow) -> None:
        logger.info("%s: %s, down for %.1f s", blow.target, blow.way, blow.pause)
        if blow.target not in self.stack.servers:
            self.stack.supervisor.strike(blow.target, blow.way, lambda: self.stopping.wait(blow.pause))
            return
        server = self.stack.servers[blow.target]
        with self._locks[blow.target]:
            self.restarts[f"{blow.target} {blow.way}"] += 1
            if blow.target == PrivatePostgresql.NAME:
                self._database_is_back = math.inf
            server.down(blow.way)
            self.stopping.wait(blow.pause)
            server.start()
            if blow.target == PrivatePostgresql.NAME:
                self._database_is_back = time.monotonic()

    def _database_was_down_since(self, moment: float) -> bool:
        """Tell whether a request sent at a moment may have met no database; for nothing else may it be refused."""
        return moment < self._database_is_back

    def _wait_until_settled(self) -> None:
        # a long queue may take its time, as long as it becomes shorter
        while left := unsettled(self.stack.shop):
            wait_for(f"any of {left} sagas to settle", partial(self._fewer_are_left, left), SETTLING_PATIENCE_SECONDS)

    def _fewer_are_left(self, than: int) -> bool:
        return unsettled(self.stack.shop) < than


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
    chaos = Chaos(stack)
    chaos.rage(wishes, blows)
    stuck: list[SagaInstance] = []
    violations: list[str] = []
    try:
        stuck += chaos.settle()
    except TimeoutError as error:
        violations.append(str(error))
    ended = ended_orders(stack.shop)
    violations += [*chaos.client.finds, *judge(wishes, chaos.client.order_ids, ended), *stuck_forward(stuck)]
    violations += [*orders_without_a_key(stack.shop), *stack.shop.violations()]
    return Report(
        title=f"{stack.name}, {title}, {len(blows)} blows",
        seconds=time.monotonic() - start,
        statuses=Counter(order.status for order in ended),
        healthy_undone=healthy_undone(wishes, ended),
        stuck=Counter(str(saga.stuck_reason) for saga in stuck),
        kills=stack.supervisor.kills,
        restarts=chaos.restarts,
        ended_by_themselves=stack.supervisor.ended_by_themselves,
        repeats=chaos.client.repeats,
        slowest_answer=chaos.client.slowest_answer,
        slowest_settling=max((order.seconds for order in ended), default=0.0),
        messages=read_logs(stack.folder),
        lost_messages=sum(server.lost_messages for server in stack.servers.values()),
        violations=violations,
    )
