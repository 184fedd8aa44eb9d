"""What starts sagas, the same for every contestant: ``python -m bench.compare.drive MODULE --sagas N``.

The module names how one saga is started and how many have ended. Never more than ``in_flight`` are unfinished. Prints
what was measured as one line of JSON.
"""

import importlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import click

from bench.compare.place import Place
from bench.compare.work import Order, order

STARTERS = 4
"""Threads that start sagas: most of that is waiting for a commit, a broker or an answer."""

LOOK_SECONDS = 0.02
"""How often the driver counts what has ended."""


class Driver(Protocol):
    """How a contestant's sagas are started and counted."""

    def start(self, order: Order) -> None:
        """Start one saga; called by several threads."""

    def ended(self) -> int:
        """Return how many sagas have ended since the place was last emptied; called by one thread."""


OpenDriver = Callable[[Place], AbstractContextManager[Driver]]


@dataclass
class Flight:
    """Sagas on their way, bounded. One thread looks what has ended, the others wait for room."""

    driver: Driver
    limit: int
    patience: float
    begun: int = 0
    ended: int = 0
    _room: threading.Condition = field(default_factory=threading.Condition)
    _failed: list[Exception] = field(default_factory=list)

    def run(self, orders: list[Order]) -> float:
        """Start these sagas and wait until all have ended; returns the seconds that took. Raises TimeoutError."""
        last = self.begun + len(orders)
        left = iter(orders)
        threads = [threading.Thread(target=self._start_all, args=(left,), daemon=True) for _ in range(STARTERS)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        while self.ended < last:
            time.sleep(LOOK_SECONDS)
            ended = self.driver.ended()
            with self._room:
                self.ended = ended
                self._room.notify_all()
            if self._failed:
                raise self._failed[0]
            if time.perf_counter() - began > self.patience:
                raise TimeoutError(f"{self.ended} of {last} sagas had ended after {self.patience:.0f} s")
        return time.perf_counter() - began

    def _start_all(self, left: Iterator[Order]) -> None:
        try:
            while (one := self._next(left)) is not None:
                self.driver.start(one)
        except Exception as error:
            self._failed.append(error)  # the thread that waits raises it

    def _next(self, left: Iterator[Order]) -> Order | None:
        with self._room:
            self._room.wait_for(lambda: self.begun - self.ended < self.limit)
            one = next(left, None)
            self.begun += one is not None
            return one


@click.command(help=__doc__.partition("\n\n")[0])
@click.argument("module")
@click.option("--sagas", type=click.IntRange(1), required=True)
@click.option("--warm-up", type=click.IntRange(0), default=0, help="Sagas that are run before and not counted.")
@click.option("--tag", required=True, help="What the orders' ids begin with.")
@click.option("--fails", is_flag=True, help="Whether the carrier says no.")
@click.option("--patience", type=float, default=60, show_default=True)
def main(module: str, sagas: int, warm_up: int, tag: str, fails: bool, patience: float) -> None:
    """Measure and print."""
    open_driver: OpenDriver = importlib.import_module(module).open_driver
    place = Place.here()
    orders = [order(tag, number, fails=fails) for number in range(warm_up + sagas)]
    with open_driver(place) as driver:
        flight = Flight(driver, place.in_flight, patience)
        if warm_up:
            flight.run(orders[:warm_up])
        click.echo(json.dumps({"seconds": flight.run(orders[warm_up:])}))


if __name__ == "__main__":
    main()
