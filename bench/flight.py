"""Sagas on their way, never more than a bound of them unfinished: what every measurement of a rate loads with."""

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

STARTERS = 4
"""Threads that start sagas: most of that is waiting for a commit, a broker or an answer."""

LOOK_SECONDS = 0.02
"""How often is counted what has ended."""

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Driver(Protocol[T_contra]):
    """How sagas are started and counted."""

    def start(self, order: T_contra) -> None:
        """Start one saga; called by several threads."""

    def ended(self) -> int:
        """Return how many sagas have ended since the place was last emptied; called by one thread."""


@dataclass
class Flight(Generic[T]):
    """Sagas on their way, bounded. One thread looks what has ended, the others wait for room."""

    driver: Driver[T]
    limit: int
    patience: float
    begun: int = 0
    ended: int = 0
    _room: threading.Condition = field(default_factory=threading.Condition)
    _failed: list[Exception] = field(default_factory=list)

    def run(self, orders: Iterable[T]) -> float:
        """Start these sagas and wait until all have ended; returns the seconds that took. Raises TimeoutError."""
        wanted = list(orders)
        last = self.begun + len(wanted)
        left = iter(wanted)
        threads = [threading.Thread(target=self._start_all, args=(left,), daemon=True) for _ in range(STARTERS)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        while self.ended < last:
            time.sleep(LOOK_SECONDS)  # the interval of looking what has ended
            ended = self.driver.ended()
            with self._room:
                self.ended = ended
                self._room.notify_all()
            if self._failed:
                raise self._failed[0]
            if time.perf_counter() - began > self.patience:
                raise TimeoutError(f"{self.ended} of {last} sagas had ended after {self.patience:.0f} s")
        return time.perf_counter() - began

    def _start_all(self, left: Iterator[T]) -> None:
        try:
            while (one := self._next(left)) is not None:
                self.driver.start(one)
        except Exception as error:
            self._failed.append(error)  # the thread that waits raises it

    def _next(self, left: Iterator[T]) -> T | None:
        with self._room:
            self._room.wait_for(lambda: self.begun - self.ended < self.limit)
            one = next(left, None)
            self.begun += one is not None
            return one
