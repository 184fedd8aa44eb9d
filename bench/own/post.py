"""Many POSTs at once while the workers are busy with what was ordered: how long an answer takes."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench.own.customer import Customer, Placed, bodies
from bench.own.measured import Figure, Measured, percentile
from bench.own.sagas import Sagas, per_second, sagas_of
from bench.own.stack import Stack, complaints, open_servers
from bench.scaling.load import BOOKS
from bench.scaling.shop import Shop
from durable_sagas.definition import SagaStatus

AT_MOST_MS = 100.0


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    posts: int
    """In all."""
    at_once: int
    """How many customers there are; each sends its next order when the one before is answered."""
    patience: float
    """How many seconds the workers may need for all."""


def measure(plan: Plan) -> Measured:
    """Have every customer send orders as fast as it is answered."""
    measured = Measured("post", details={"posts": plan.posts, "at_once": plan.at_once})
    with open_servers() as stack, sagas_of(stack.database_url) as sagas:
        measured.details["stack"] = stack.describe()
        shop = Shop(stack.url, stack.token)
        books = [shop.add_book(plan.posts + plan.at_once) for _ in range(BOOKS)]
        _post(stack, bodies(books, plan.at_once), plan.at_once)  # connections are opened, here and there
        sagas.settle(plan.patience)
        placed, seconds = _post(stack, bodies(books, plan.posts), plan.at_once)
        waiting = sagas.unfinished()
        sagas.settle(plan.patience)
        _tell(measured, placed, seconds, waiting, sagas)
        measured.wrong += complaints(stack)
    return measured


def _post(stack: Stack, orders: list[bytes], at_once: int) -> tuple[list[Placed], float]:
    """Send them all; returns what was accepted, and the seconds that took."""
    together = threading.Barrier(at_once + 1)

    def customer(mine: list[bytes]) -> list[Placed]:
        one = Customer(stack.url)
        together.wait()
        placed = [one.order(order) for order in mine]
        one.close()
        return placed

    with ThreadPoolExecutor(at_once) as threads:
        sending = [threads.submit(customer, orders[number::at_once]) for number in range(at_once)]
        together.wait()
        began = time.perf_counter()
        placed = [one for future in sending for one in future.result()]
        return placed, time.perf_counter() - began


def _tell(measured: Measured, placed: list[Placed], seconds: float, waiting: int, sagas: Sagas) -> None:
    took = [1000 * one.seconds for one in placed]
    ended = sagas.of([one.saga_id for one in placed])
    completed = sum(saga.status is SagaStatus.COMPLETED for saga in ended)
    if completed != len(placed):
        measured.wrong.append(f"{completed} of {len(placed)} orders were completed")
    at_once = measured.details["at_once"]
    measured.figures += [
        Figure(f"{at_once} POSTs at once, workers busy: answer, p99", percentile(99, took), "ms", at_most=AT_MOST_MS),
        Figure(f"{at_once} POSTs at once, workers busy: answer, median", percentile(50, took), "ms"),
        Figure(f"{at_once} POSTs at once, workers busy: answers", len(placed) / seconds, "/s"),
        Figure("orders settled meanwhile and after", per_second(ended), "/s"),
    ]
    measured.notes.append(f"{waiting} of {len(placed)} orders had not ended when the last POST was answered")
    measured.details |= {"ms": took, "unfinished_at_the_end": waiting}
