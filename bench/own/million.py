"""Orders settled per second beside a million finished ones, and beside none: in turns, on two databases."""

import statistics
from contextlib import ExitStack
from dataclasses import dataclass

from bench.million_orders import SERVER, audited, shop
from bench.own.filled import Filled, tidy
from bench.own.measured import Figure, Measured
from bench.own.sagas import per_second, sagas_of
from bench.own.stack import open_servers
from bench.own.turn import Turn, as_details, incomplete
from bench.scaling.load import BOOKS
from bench.scaling.shop import Shop

AT_LEAST = 0.95


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    finished: int
    """How many finished orders the full shop has."""
    rounds: int
    turn: Turn


def measure(plan: Plan, filled: Filled) -> Measured:
    """Take turns; each starts the shop anew, so that only one runs at a time."""
    beside, alone = f"beside {plan.finished:,} finished orders", "beside none"
    measured = Measured("million", details={"finished": plan.finished, **as_details(plan.turn, plan.rounds)})
    rates: dict[str, list[float]] = {beside: [], alone: []}
    with ExitStack() as stack:
        # both are made in the same way, one of them with nothing in it
        urls = {beside: filled.url(plan.finished), alone: stack.enter_context(shop(SERVER, 0, logged=True))}
        for number in range(plan.rounds):
            for which in (beside, alone) if number % 2 else (alone, beside):
                rates[which].append(_turn(plan.turn, urls[which], measured))
        for which, url in urls.items():
            if violated := audited(url).violated:
                measured.wrong.append(f"the audit of the shop {which} is not clean: {', '.join(sorted(violated))}")
    ratio = statistics.median(rates[beside]) / statistics.median(rates[alone])
    measured.figures += [
        Figure(f"orders/s {beside} ÷ {alone}", ratio, at_least=AT_LEAST),
        *(Figure(f"orders settled {which}, median", statistics.median(taken), "/s") for which, taken in rates.items()),
    ]
    measured.details["orders_per_second"] = rates
    return measured


def _turn(turn: Turn, url: str, measured: Measured) -> float:
    """Return how many orders the shop on this database settles per second."""
    tidy(url)
    with open_servers(url) as stack, sagas_of(url) as sagas:
        measured.details["stack"] = stack.describe()
        there = Shop(stack.url, stack.token)
        ended = turn.run(stack, sagas, [there.add_book(turn.copies) for _ in range(BOOKS)])
    measured.wrong += incomplete(ended, turn.orders)
    return per_second(ended)
