"""Orders for one book, whose stock row they all change, against orders for many; and a book that sells out."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.own.measured import Figure, Measured
from bench.own.sagas import Saga, per_second, sagas_of
from bench.own.stack import complaints, open_servers
from bench.own.turn import Turn, as_details, incomplete
from bench.scaling.load import BOOKS
from bench.scaling.shop import Shop
from durable_sagas.definition import SagaStatus

AT_LEAST = 0.5
ONE, MANY = "for one book", f"spread over {BOOKS} books"


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    turn: Turn
    stock: int
    """How many copies there are of the book that sells out; it is ordered as often as a turn has orders."""


def measure(plan: Plan) -> Measured:
    """Take turns, each with new books that do not run out; then sell one out."""
    measured = Measured("hot-row", details={**as_details(plan.turn, plan.rounds), "stock": plan.stock})
    rates: dict[str, list[float]] = {MANY: [], ONE: []}
    with open_servers() as stack, sagas_of(stack.database_url) as sagas:
        measured.details["stack"] = stack.describe()
        shop = Shop(stack.url, stack.token)
        for number in range(plan.rounds):
            for which in (ONE, MANY) if number % 2 else (MANY, ONE):
                books = [shop.add_book(plan.turn.copies) for _ in range(BOOKS if which is MANY else 1)]
                ended = plan.turn.run(stack, sagas, books)
                measured.wrong += incomplete(ended, plan.turn.orders)
                rates[which].append(per_second(ended))
        scarce = shop.add_book(plan.stock)
        ended = replace(plan.turn, warm_up=0).run(stack, sagas, [scarce])
        measured.wrong += oversold(ended, plan.stock, shop.stock(scarce)) + complaints(stack)
    ratio = statistics.median(rates[ONE]) / statistics.median(rates[MANY])
    sold = sum(saga.status is SagaStatus.COMPLETED for saga in ended)
    measured.figures += [
        Figure(f"orders/s {ONE} ÷ {MANY}", ratio, at_least=AT_LEAST),
        *(Figure(f"orders settled {which}, median", statistics.median(taken), "/s") for which, taken in rates.items()),
        Figure(
            f"of {len(ended)} orders for {plan.stock} copies, completed", sold, at_least=plan.stock, at_most=plan.stock
        ),
        Figure("orders settled while a book sells out, most of them undone", per_second(ended), "/s"),
    ]
    measured.details["orders_per_second"] = rates
    return measured


def oversold(ended: Sequence[Saga], stock: int, left: tuple[int, int]) -> list[str]:
    """Return what is wrong unless each copy was sold once, nothing is held, and all other orders were undone."""
    wanted = {SagaStatus.COMPLETED: min(stock, len(ended)), SagaStatus.COMPENSATED: max(0, len(ended) - stock)}
    found = Counter(saga.status for saga in ended)
    wrong = [] if found == Counter(wanted) else [f"{stock} copies, {len(ended)} orders, and they ended: {dict(found)}"]
    if left != (max(0, stock - len(ended)), 0):
        wrong.append(f"of {stock} copies {left[0]} are said to be available and {left[1]} reserved in the end")
    return wrong
