"""The load: so many orders, of which never more than a bound are unfinished."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle, islice

from bench.scaling.shop import RequestError, Seen, Shop

BOOKS = 20
"""So many that orders seldom wait for one another's stock row."""

PLACERS = 4
LOOK_EVERY_SECONDS = 0.2


class Load:
    """A client that keeps a bounded number of orders under way."""

    def __init__(
        self, shop: Shop, stock: int, patience: float, tell: Callable[[str], None], stopping: threading.Event
    ) -> None:
        self._shop = shop
        self._stopping = stopping
        self._books = cycle([shop.add_book(stock) for _ in range(BOOKS)])
        self._patience = patience
        self._tell = tell

    def run(self, orders: int, in_flight: int) -> list[Seen]:
        """Place so many orders; return their sagas once all have ended. Raises RequestError if one is late."""
        give_up = time.monotonic() + self._patience
        unfinished: set[str] = set()
        ended: dict[str, Seen] = {}
        placing: list[Future[str]] = []
        with ThreadPoolExecutor(PLACERS) as placers:
            try:
                while len(ended) < orders:
                    if time.monotonic() > give_up:
                        raise RequestError(
                            f"{orders - len(ended)} of {orders} orders have not ended in {self._patience} s"
                        )
                    under_way = len(unfinished) + len(placing)
                    room = min(in_flight - under_way, orders - len(ended) - under_way)
                    placing += [placers.submit(self._shop.order, book) for book in islice(self._books, max(0, room))]
                    if self._stopping.wait(LOOK_EVERY_SECONDS):
                        raise KeyboardInterrupt  # the first one may have been raised where Python ignores it
                    placing, placed = _split(placing)
                    unfinished |= {future.result() for future in placed}
                    seen = self._shop.seen(unfinished)
                    ended |= {saga_id: saga for saga_id, saga in seen.items() if saga.ended}
                    unfinished -= set(ended)
                    self._tell(f"{len(ended)} of {orders}")
            finally:
                for future in placing:
                    future.cancel()
        return list(ended.values())


def _split(futures: Sequence["Future[str]"]) -> tuple[list["Future[str]"], list["Future[str]"]]:
    return [future for future in futures if not future.done()], [future for future in futures if future.done()]
