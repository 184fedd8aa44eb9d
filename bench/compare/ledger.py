"""The tables of the work: made, emptied before a round, counted while it runs, and checked when it has ended."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.pool import NullPool

from bench.compare.work import BOOKS, COPIES, Outcome

_TABLES = (
    """CREATE TABLE bench_stock (
        book_id integer PRIMARY KEY,
        available integer NOT NULL CHECK (available >= 0),
        reserved integer NOT NULL DEFAULT 0
    )""",
    """CREATE TABLE bench_orders (
        id text PRIMARY KEY,
        book_id integer NOT NULL,
        amount numeric(12, 2) NOT NULL,
        status text NOT NULL DEFAULT 'pending',
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
    )""",
    """CREATE TABLE bench_reservations (
        order_id text PRIMARY KEY,
        book_id integer NOT NULL,
        status text NOT NULL DEFAULT 'reserved'
    )""",
    """CREATE TABLE bench_payments (
        order_id text PRIMARY KEY,
        amount numeric(12, 2) NOT NULL,
        status text NOT NULL DEFAULT 'completed'
    )""",
    "CREATE TABLE bench_shipments (order_id text PRIMARY KEY, tracking_number text NOT NULL)",
)

_EMPTY = (
    "TRUNCATE bench_stock, bench_orders, bench_reservations, bench_payments, bench_shipments",
    f"INSERT INTO bench_stock (book_id, available) SELECT number, {COPIES} FROM generate_series(0, {BOOKS - 1}) number",
)

_ENDED = "SELECT count(*) FROM bench_orders WHERE status <> 'pending'"

_FOUND = {
    "orders": "SELECT status, count(*) FROM bench_orders GROUP BY status",
    "reservations": "SELECT status, count(*) FROM bench_reservations GROUP BY status",
    "payments": "SELECT status, count(*) FROM bench_payments GROUP BY status",
    "shipments": "SELECT 'arranged', count(*) FROM bench_shipments HAVING count(*) > 0",
    "copies reserved": "SELECT 'in all', sum(reserved) FROM bench_stock HAVING sum(reserved) > 0",
    "copies": "SELECT 'in all', sum(available + reserved) FROM bench_stock",
}


def prepare(database_url: str) -> None:
    """Make the tables."""
    with _connected(database_url) as connection:
        for statement in _TABLES:
            connection.exec_driver_sql(statement)


def empty(database_url: str) -> None:
    """Forget all orders, and fill the stock."""
    with _connected(database_url) as connection:
        for statement in _EMPTY:
            connection.exec_driver_sql(statement)


def violations(database_url: str, orders: int, outcome: Outcome) -> list[str]:
    """Return what is not as it must be once so many orders have ended so, and nothing else has happened."""
    with _connected(database_url) as connection:
        found = {name: _rows(connection, query) for name, query in _FOUND.items()}
    expected = _expected(orders, outcome)
    return [f"{name} are {found[name]}, not {expected[name]}" for name in _FOUND if found[name] != expected[name]]


class EndedOrders:
    """Counts the orders that have ended, on a connection of its own."""

    def __init__(self, database_url: str) -> None:
        self._connection = _engine(database_url).connect()

    def count(self) -> int:
        """Return how many have ended since the tables were emptied."""
        return int(self._connection.exec_driver_sql(_ENDED).scalar_one())

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _expected(orders: int, outcome: Outcome) -> dict[str, dict[str, int]]:
    done = outcome is Outcome.COMPLETED
    return {
        "orders": {outcome.value: orders},
        "reservations": {"reserved" if done else "released": orders},
        "payments": {"completed" if done else "refunded": orders},
        "shipments": {"arranged": orders} if done else {},
        "copies reserved": {"in all": orders} if done else {},
        "copies": {"in all": BOOKS * COPIES},
    }


def _rows(connection: Connection, query: str) -> dict[str, int]:
    return {str(name): int(count) for name, count in connection.exec_driver_sql(query)}


@contextmanager
def _connected(database_url: str) -> Iterator[Connection]:
    with _engine(database_url).connect() as connection:
        yield connection


def _engine(database_url: str) -> Any:
    url = make_url(database_url).set(drivername="postgresql+psycopg2")
    return create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
