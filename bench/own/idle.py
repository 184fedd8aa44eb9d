"""One order on an idle shop: from the beginning of its POST to the saga's being completed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from bench.own.customer import Customer, Placed, body
from bench.own.hops import hops
from bench.own.measured import Figure, Measured, percentile
from bench.own.sagas import Sagas, sagas_of
from bench.own.stack import STACKS, Stack, complaints
from bench.scaling.shop import Shop
from durable_sagas.definition import SagaStatus
from workflows.orders import Pattern

AT_MOST_MS = {"embedded": 25.0, "servers": 40.0}
WARM_UP = 5
"""Orders of each pattern that are not counted: a process's first ones open its connections."""
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    orders: int
    """Of each pattern."""
    pause: float
    """Seconds from an order's answer to the next order."""
    stacks: Sequence[str]


def measure(plan: Plan) -> Measured:
    """Place one order at a time, the patterns in turns."""
    measured = Measured("idle", details={"orders": plan.orders, "pause_seconds": plan.pause})
    for name in plan.stacks:
        with STACKS[name]() as stack, sagas_of(stack.database_url) as sagas:
            measured.details[name] = {"stack": stack.describe()}
            placed = _place(plan, stack, sagas)
            for pattern, orders in placed.items():
                _tell(measured, f"{name}, {pattern}", AT_MOST_MS[name], orders, sagas)
            if overlap := _overlap([one for orders in placed.values() for one in orders], sagas):
                measured.notes.append(f"{name}: {overlap} orders had not ended when the next was sent: raise --pause")
            measured.wrong += complaints(stack)
    return measured


def _place(plan: Plan, stack: Stack, sagas: Sagas) -> dict[Pattern, list[Placed]]:
    book = Shop(stack.url, stack.token).add_book(2 * (plan.orders + WARM_UP))
    sent = {pattern: body(book, pattern) for pattern in Pattern}
    placed: dict[Pattern, list[Placed]] = {pattern: [] for pattern in Pattern}
    customer = Customer(stack.url)
    for _ in range(WARM_UP + plan.orders):
        for pattern in Pattern:
            placed[pattern].append(customer.order(sent[pattern]))
            time.sleep(plan.pause)  # so that the shop is idle again
    customer.close()
    sagas.settle(PATIENCE_SECONDS)
    return {pattern: orders[WARM_UP:] for pattern, orders in placed.items()}


def _overlap(placed: Sequence[Placed], sagas: Sagas) -> int:
    """Return how many orders had not ended when the next one was sent, so that the shop was not idle."""
    ended = {saga.id: saga.updated_at.timestamp() for saga in sagas.of([one.saga_id for one in placed])}
    in_turn = sorted(placed, key=lambda one: one.sent_at)
    return sum(ended[one.saga_id] > following.sent_at for one, following in pairwise(in_turn))


def _tell(measured: Measured, which: str, at_most: float, placed: Sequence[Placed], sagas: Sagas) -> None:
    by_id = {saga.id: saga for saga in sagas.of([one.saga_id for one in placed])}
    took, accepted = [], []
    for one in placed:
        saga = by_id[one.saga_id]
        if saga.status is not SagaStatus.COMPLETED or saga.completed_at is None:
            measured.wrong.append(f"{which}: saga {saga.id} is {saga.status}, not completed")
            continue
        took.append(1000 * (saga.completed_at.timestamp() - one.sent_at))
        accepted.append(1000 * (saga.created_at.timestamp() - one.sent_at))
    if not took:
        return
    answers = [1000 * one.seconds for one in placed]
    measured.figures += [
        Figure(f"idle, {which}: POST to completed, median", percentile(50, took), "ms", at_most=at_most),
        Figure(f"idle, {which}: POST to completed, p95", percentile(95, took), "ms"),
        Figure(f"idle, {which}: POST answered, median", percentile(50, answers), "ms"),
    ]
    where = hops(list(by_id.values()), sagas.steps(list(by_id)))
    first = f"accepted after {percentile(50, accepted):.1f} ms"
    measured.notes.append(f"{which}, medians: {'; '.join([first, *map(str, where)])}")
    measured.details[which] = {
        "ms": took,
        "accepted_ms": accepted,
        "answer_ms": answers,
        "hops": [hop.as_json() for hop in where],
    }
