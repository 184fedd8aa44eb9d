"""A turn of a measure of throughput: so many orders, of which never more than a bound are unfinished."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from bench.flight import Flight
from bench.own.customer import bodies, customers
from bench.own.sagas import Saga, Sagas
from bench.own.stack import Stack
from durable_sagas.definition import SagaStatus


@dataclass(frozen=True)
class Turn:
    """How long a turn is."""

    orders: int
    warm_up: int
    """Orders before, of the same books, that are not counted."""
    in_flight: int
    patience: float
    """How many seconds it may take."""

    @property
    def copies(self) -> int:
        """Return how many copies of a book are enough for all of it."""
        return self.orders + self.warm_up

    def run(self, stack: Stack, sagas: Sagas, books: Sequence[str]) -> list[Saga]:
        """Place the orders on a shop that has none unfinished; returns the sagas that count, all of them ended."""
        with customers(stack.url, sagas) as them:
            flight = Flight(them, self.in_flight, self.patience)
            sent = iter(bodies(list(books), self.copies))
            flight.run(islice(sent, self.warm_up))
            flight.run(sent)
            return sagas.of([one.saga_id for one in them.placed[self.warm_up :]])


def incomplete(ended: Sequence[Saga], wanted: int) -> list[str]:
    """Return what is wrong unless so many orders were completed."""
    completed = sum(saga.status is SagaStatus.COMPLETED for saga in ended)
    return [] if completed == wanted else [f"{completed} orders were completed, and not {wanted}"]


def as_details(turn: Turn, rounds: int) -> dict[str, Any]:
    """Return what is written of it."""
    return {"rounds": rounds, "orders": turn.orders, "warm_up": turn.warm_up, "in_flight": turn.in_flight}
