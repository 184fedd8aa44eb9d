"""The order on DBOS Transact without its queue: each worker starts the workflows that the driver tells it of."""

from collections.abc import Iterator
from contextlib import contextmanager

from bench.compare.place import Place
from bench.compare.sagas.floor import Driver
from bench.compare.sagas.floor import open_driver as open_lines


@contextmanager
def open_driver(place: Place) -> Iterator[Driver]:
    """Connect."""
    with open_lines(place) as driver:
        yield driver
