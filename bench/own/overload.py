"""More orders than the shop can serve: what it accepts completes, none is undone for waiting, and it does not collapse.

First its capacity, by orders of which few are under way at a time. Then, for each factor, orders arrive for some
seconds at that many times the capacity, whether or not they are answered in time; a refused one (503) is not repeated.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.own.customer import Customer, Placed, bodies
from bench.own.measured import Figure, Measured, percentile
from bench.own.sagas import Sagas, per_second, sagas_of
from bench.own.stack import Stack, complaints, open_embedded, open_servers
from bench.own.turn import Turn
from bench.scaling.load import BOOKS
from bench.scaling.shop import Refused, Shop
from durable_sagas.definition import SagaStatus
from workflows.orders import Pattern

STACKS = ("rabbitmq", "redis", "embedded")
AT_LEAST = 0.9
"""Of the capacity: what must still be settled per second, however many orders arrive."""

POST_MS = 300.0


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    stacks: Sequence[str]
    factors: Sequence[float]
    """Times the capacity."""
    seconds: float
    """How long orders arrive, for each factor."""
    at_once: int
    """How many customers there are."""
    patience: float
    """How many seconds the shop may need until all has ended, for each factor."""
    orders: int = 300
    """By which the capacity is measured."""


@dataclass(frozen=True)
class Load:
    """What came of the orders that arrived."""

    placed: list[Placed]
    refused: int


def measure(plan: Plan) -> Measured:
    """Take every stack through all factors, in turns of one run."""
    measured = Measured("overload", details={"seconds": plan.seconds, "customers": plan.at_once})
    for name in plan.stacks:
        with _open(name) as stack, sagas_of(stack.database_url) as sagas:
            _measure(plan, name, stack, sagas, measured)
    return measured


def _open(name: str) -> AbstractContextManager[Stack]:
    return open_embedded() if name == "embedded" else open_servers(broker=name)


def _measure(plan: Plan, name: str, stack: Stack, sagas: Sagas, measured: Measured) -> None:
    shop = Shop(stack.url, stack.token)
    copies = 100_000
    books = [shop.add_book(copies) for _ in range(BOOKS)]
    turn = Turn(plan.orders, warm_up=50, in_flight=plan.at_once, patience=plan.patience)
    capacity = per_second(turn.run(stack, sagas, books))
    measured.figures.append(Figure(f"{name}: settled with {plan.at_once} under way", capacity, "/s"))
    for factor in plan.factors:
        before = stack.redriven()
        load = _arrive(stack, books, capacity * factor, plan)
        sagas.settle(plan.patience)
        says = f"{name}, {factor:g} × that"
        measured.figures += _figures(says, load, sagas, capacity, stack.redriven() - before)
    measured.wrong += complaints(stack)


def _arrive(stack: Stack, books: list[str], rate: float, plan: Plan) -> Load:
    """Send orders at a constant rate; return which were accepted, and how many were refused."""
    count = int(rate * plan.seconds)
    orders = bodies(books, count, (Pattern.ORCHESTRATION, Pattern.CHOREOGRAPHY))
    began = time.monotonic()

    def customer(number: int) -> Load:
        one, placed, refused = Customer(stack.url), [], 0
        for position in range(number, count, plan.at_once):
            time.sleep(max(0.0, began + position / rate - time.monotonic()))  # until this order is due
            try:
                placed.append(one.order(orders[position]))
            except Refused:
                refused += 1
        one.close()
        return Load(placed, refused)

    with ThreadPoolExecutor(plan.at_once) as threads:
        loads = list(threads.map(customer, range(plan.at_once)))
    return Load([one for load in loads for one in load.placed], sum(load.refused for load in loads))


def _figures(says: str, load: Load, sagas: Sagas, capacity: float, redriven: int) -> list[Figure]:
    ended = {saga.id: saga for saga in sagas.of([one.saga_id for one in load.placed])}
    waited = []
    for one in load.placed:
        completed_at = ended[one.saga_id].completed_at
        if completed_at:
            waited.append((completed_at - datetime.fromtimestamp(one.sent_at, UTC)).total_seconds())
    undone = sum(saga.status is not SagaStatus.COMPLETED for saga in ended.values())
    answers = [1000 * one.seconds for one in load.placed]
    return [
        Figure(f"{says}: accepted", len(load.placed)),
        Figure(f"{says}: refused", load.refused),
        Figure(f"{says}: settled", per_second(list(ended.values())), "/s", at_least=round(AT_LEAST * capacity, 1)),
        Figure(f"{says}: answer to an accepted POST, p99", percentile(99, answers), "ms", at_most=POST_MS),
        Figure(f"{says}: from accepted to completed, median", percentile(50, waited), "s"),
        Figure(f"{says}: from accepted to completed, p99", percentile(99, waited), "s"),
        Figure(f"{says}: undone", undone, at_most=0, at_least=0),
        Figure(f"{says}: re-driven by the sweep", redriven),
    ]
