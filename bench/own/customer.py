"""Customers: each keeps a connection open, and what they send is made before the time counts."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from itertools import cycle
from urllib.parse import urlsplit

from bench.own.sagas import Sagas
from bench.scaling.shop import TIMEOUT_SECONDS, Refused, RequestError
from workflows.orders import Pattern

HEADERS = {"Content-Type": "application/json"}
RESTS_SECONDS = 1.0
"""How long a connection may rest before a new one is made: Gunicorn closes one that has rested for two seconds."""


@dataclass(frozen=True)
class Placed:
    """An order that was accepted."""

    saga_id: str
    sent_at: float
    """Seconds since 1970, so that it may be compared with what the shop's processes wrote."""
    seconds: float
    """How long the answer took."""


class Customer:
    """Places orders, one after the other; it is connected from the beginning."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_SECONDS)
        self._connection.connect()
        self._used = time.monotonic()

    def order(self, body: bytes) -> Placed:
        """Send an order. Raises RequestError, and Refused if the shop accepts none at present."""
        if time.monotonic() - self._used > RESTS_SECONDS:
            self._connection.close()
            self._connection.connect()
        sent_at, began = time.time(), time.perf_counter()
        try:
            self._connection.request("POST", "/api/v1/orders", body, HEADERS)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise RequestError(f"an order was not answered: {error!r}") from error
        seconds = time.perf_counter() - began
        self._used = time.monotonic()
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            raise Refused(f"an order was refused: {content[:300]!r}")
        if answer.status != 202:
            raise RequestError(f"an order was answered with {answer.status}: {content[:300]!r}")
        return Placed(json.loads(content)["saga_id"], sent_at, seconds)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


class Customers:
    """As many customers as there are threads that place orders; a driver for ``bench.flight``."""

    def __init__(self, url: str, sagas: Sagas) -> None:
        self.placed: list[Placed] = []
        self._url = url
        self._sagas = sagas
        self._own = threading.local()
        self._all: list[Customer] = []

    def start(self, order: bytes) -> None:
        """Place an order. Raises RequestError."""
        if not hasattr(self._own, "customer"):
            self._own.customer = Customer(self._url)
            self._all.append(self._own.customer)
        self.placed.append(self._own.customer.order(order))

    def ended(self) -> int:
        """Return how many of the orders placed have ended, for certain."""
        placed = len(self.placed)  # first: what is placed meanwhile is counted among the unfinished
        return placed - self._sagas.unfinished()

    def close(self) -> None:
        """Hang up."""
        for customer in self._all:
            customer.close()


@contextmanager
def customers(url: str, sagas: Sagas) -> Iterator[Customers]:
    """Yield customers of a shop that has no unfinished orders."""
    them = Customers(url, sagas)
    try:
        yield them
    finally:
        them.close()


def body(book_id: str, pattern: Pattern = Pattern.ORCHESTRATION) -> bytes:
    """Return an order of one copy, as it is sent."""
    return json.dumps({"items": [{"product_id": book_id, "quantity": 1}], "pattern": pattern}).encode()


def bodies(book_ids: list[str], count: int, patterns: tuple[Pattern, ...] = (Pattern.ORCHESTRATION,)) -> list[bytes]:
    """Return so many orders, each of the next book and in the next pattern."""
    books, ways = cycle(book_ids), cycle(patterns)
    return [body(next(books), next(ways)) for _ in range(count)]
