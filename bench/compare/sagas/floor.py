"""The floor of the work: the same transactions one after the other, with nothing that makes a saga of them.

``python -m bench.compare.sagas.floor NUMBER`` is a worker.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import psycopg2

from bench.compare.ledger import EndedOrders
from bench.compare.place import LineWriter, Place, lines
from bench.compare.sagas.common import ended_orders
from bench.compare.work import STEPS, Order, RequestError, act, undo


class Driver:
    """Gives each order to one of the workers."""

    def __init__(self, ended: EndedOrders, writer: LineWriter) -> None:
        self.ended = ended.count
        self._writer = writer

    def start(self, order: Order) -> None:
        """Give one order away."""
        self._writer.write(json.dumps(order))


@contextmanager
def open_driver(place: Place) -> Iterator[Driver]:
    """Connect."""
    writer = LineWriter(place)
    try:
        with ended_orders(place) as ended:
            yield Driver(ended, writer)
    finally:
        writer.close()


def run(connection: Any, order: Order) -> None:
    """Run the four transactions, or undo those that were before the one that is refused."""
    done: list[str] = []
    try:
        for step in STEPS:
            _in_transaction(connection, act, step, order)
            done.append(step)
    except RequestError:
        for step in reversed(done):
            _in_transaction(connection, undo, step, order)


def _in_transaction(connection: Any, do: Callable[..., None], step: str, order: Order) -> None:
    with connection, connection.cursor() as cursor:

        def execute(sql: str, parameters: Mapping[str, Any]) -> int:
            cursor.execute(sql, parameters)
            return int(cursor.rowcount)

        do(step, order, execute)


def main() -> None:
    """Work until somebody ends the process."""
    place = Place.here()
    connection = psycopg2.connect(place.database_url)
    with lines(place, int(sys.argv[1])) as orders:
        for line in orders:
            run(connection, json.loads(line))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
