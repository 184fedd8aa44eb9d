"""What the seed fixes: which orders are placed, and when what is struck, how, and for how long it is down."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ORDERS_PER_SECOND = 8.0
"""What two cores can do while half of what works is being started again."""

MAX_PAUSE_SECONDS = 2.0

HEALTHY: dict[str, str] = {}
DOOMED: tuple[dict[str, str], ...] = (
    {"inventory": "decline"},
    {"payments": "decline"},
    {"shipping": "decline"},
    {"payments": "timeout"},
    {"shipping": "timeout"},
    {"payments": "fail:9"},
    {"orders": "decline"},
    {"shipping": "decline", "payments": "undo-fail:1"},
    {"shipping": "decline", "inventory": "undo-fail:2"},
)
RECOVERING: tuple[dict[str, str], ...] = ({"inventory": "fail:1"}, {"shipping": "fail:2"})
SAGA_TYPES = ("order", "order-payment-first", "order-choreography")


@dataclass(frozen=True)
class Blow:
    """One thing that is killed or taken down: when (seconds from the start), how, and how long it stays down."""

    at: float
    target: str
    way: str
    pause: float


@dataclass(frozen=True)
class Wish:
    """One order to be placed; ``doomed`` if what it simulates must make it end compensated."""

    at: float
    key: str
    body: dict[str, Any]
    doomed: bool
    answers: int = 1
    """After how many answers the client is content: with two it acts as if the first had been lost."""


@dataclass(frozen=True)
class Target:
    """Something that can be struck, in these ways; of a hundred blows it gets about ``weight``."""

    name: str
    ways: Sequence[str]
    weight: float
    sure: bool = False
    """Whether even a short run strikes it."""


def duration(orders: int, kills: int, seconds_per_blow: float) -> float:
    """Return for how many seconds orders arrive and blows fall."""
    return max(orders / ORDERS_PER_SECOND, kills * seconds_per_blow)


def blows(rng: random.Random, targets: Sequence[Target], number: int, seconds: float) -> list[Blow]:
    """Draw so many blows, each at a random moment of its share of the time; ``sure`` targets get at least one."""
    sure = [target for target in targets if target.sure][:number]
    struck = sure + rng.choices(targets, [target.weight for target in targets], k=number - len(sure))
    rng.shuffle(struck)
    share = seconds / max(1, number)
    return [
        Blow(
            at=rng.uniform(place, place + 1) * share,
            target=target.name,
            way=rng.choice(target.ways),
            pause=rng.uniform(0, MAX_PAUSE_SECONDS),
        )
        for place, target in enumerate(struck)
    ]


def wishes(rng: random.Random, books: Sequence[str], number: int, seconds: float) -> list[Wish]:
    """Draw so many orders at a steady pace, in every kind of saga, half with a fault; the books make their keys."""
    return [_wish(rng, books, each, each * seconds / number) for each in range(number)]


def _wish(rng: random.Random, books: Sequence[str], number: int, at: float) -> Wish:
    saga_type = SAGA_TYPES[number % len(SAGA_TYPES)]
    simulate = rng.choice((*DOOMED, *RECOVERING)) if rng.random() < 0.5 else HEALTHY
    if "orders" in simulate:
        saga_type = "order"  # a choreographed order is created with its request: so orders cannot decline it
    chosen = rng.sample(books, k=rng.choice((1, 1, 2)))
    body = {
        "customer_id": "customer-001",
        "saga_type": saga_type,
        "items": [{"product_id": book, "quantity": rng.randint(1, 3)} for book in chosen],
        **({"simulate": simulate} if simulate else {}),
    }
    answers = 2 if rng.random() < 0.1 else 1
    return Wish(at, f"{books[0]}-{number}", body, doomed=simulate in DOOMED, answers=answers)
