"""Drop a partition, or delete the same rows: ``python -m bench.partitions [--sagas 100000] [--parts 10]``.

Makes a database of its own on PostgreSQL (TEST_DATABASE_URL) with the log's two large tables, ``events`` and
``saga_steps``, each once as it is and once partitioned by its time-ordered id, and fills both alike. Then it measures
how long it takes to get rid of the oldest part, and what the partitions cost who reads and writes. The database is
dropped at the end.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from sqlalchemy import Connection, create_engine

from app.migrations import migrate
from tests.testkit.servers import fresh_postgresql_database

YEAR_MS = 365 * 24 * 3600 * 1000
BEGIN_MS = 1_767_225_600_000
STEPS_OF_A_SAGA = 6
BATCH = 1000
"""How many sagas' rows one transaction deletes, so that it holds nobody up."""

_ID = "(lpad(to_hex({ms}), 12, '0') || '7' || lpad(to_hex({salt}), 3, '0') || '8000' || lpad(to_hex(n), 12, '0'))::uuid"


@click.command(help=__doc__.partition("\n\n")[0])
@click.option("--sagas", type=click.IntRange(1000, 10_000_000), default=100_000, show_default=True)
@click.option("--parts", type=click.IntRange(2, 200), default=10, show_default=True)
def main(sagas: int, parts: int) -> None:
    """Fill, measure and print."""
    with _database() as connection:
        for table, key in (("events", "id"), ("saga_steps", "saga_id")):
            _partition(connection, table, key, parts)
        _fill(connection, sagas)
        click.echo(f"{sagas:,} sagas with {STEPS_OF_A_SAGA} events and steps each, {parts} parts; the oldest goes")
        _write_and_read(connection, sagas)
        for table, key in (("events", "id"), ("saga_steps", "saga_id")):
            _get_rid(connection, table, key, parts)


def _partition(connection: Connection, table: str, key: str, parts: int) -> None:
    """Make an empty copy of a table, in parts. Its primary key stays; events lose their number's uniqueness."""
    copy = f"{table}_parted"
    primary = "saga_id, step, operation" if table == "saga_steps" else "id"
    _run(connection, f"CREATE TABLE {copy} (LIKE {table}, PRIMARY KEY ({primary})) PARTITION BY RANGE ({key})")
    for part in range(parts):
        begin, end = (_bound(part + place, parts) for place in (0, 1))
        _run(connection, f"CREATE TABLE {copy}_{part} PARTITION OF {copy} FOR VALUES FROM ('{begin}') TO ('{end}')")
        if table == "events":
            _run(connection, f"CREATE UNIQUE INDEX ON {copy}_{part} (aggregate_id, sequence)")
        else:
            _run(connection, f"CREATE INDEX ON {copy}_{part} (task_id)")


def _bound(part: int, parts: int) -> str:
    digits = f"{BEGIN_MS + YEAR_MS * part // parts:012x}"
    return f"{digits[:8]}-{digits[8:]}-0000-0000-000000000000"


def _fill(connection: Connection, sagas: int) -> None:
    ms = f"({BEGIN_MS} + n * {YEAR_MS}::bigint / {sagas})"
    made = f"FROM generate_series(0, {sagas - 1}) AS n CROSS JOIN generate_series(1, {STEPS_OF_A_SAGA}) AS place"
    at = f"to_timestamp({ms} / 1000.0)"
    for suffix in ("", "_parted"):
        _run(
            connection,
            f"""INSERT INTO events{suffix} (id, event_type, aggregate_id, sequence, payload, timestamp)
                SELECT {_ID.format(ms=ms, salt="place")}, 'StockReserved', 'order-' || n, place,
                       jsonb_build_object('order_id', 'order-' || n, 'items', jsonb_build_array('book-123', 1)), {at}
                {made}""",
        )
        _run(
            connection,
            f"""INSERT INTO saga_steps{suffix} (saga_id, step, operation, status, attempts, earlier_attempts, failures,
                                                task_id, result, started_at, finished_at)
                SELECT {_ID.format(ms=ms, salt="0")}, 'step-' || place, 'action', 'completed', 1, 0, '[]',
                       gen_random_uuid()::text, jsonb_build_object('order_id', 'order-' || n), {at}, {at}
                {made}""",
        )
    _run(connection, "VACUUM ANALYZE")


def _write_and_read(connection: Connection, sagas: int) -> None:
    """Print what the partitions cost the statements that every step runs, in blocks: the clock has neighbours."""
    click.echo(f"{'blocks looked at by a statement of every step':<48}{'one table':>10}{'parts':>8}")
    order = f"'order-{sagas // 2}'"
    saga = _ID.format(ms=f"({BEGIN_MS} + n * {YEAR_MS}::bigint / {sagas})", salt="0")
    (saga_id,) = connection.exec_driver_sql(f"SELECT {saga} FROM (SELECT {sagas // 2} AS n) AS one").one()
    for what, table, query in (
        ("the number of an order's last event", "events", f"SELECT max(sequence) FROM %s WHERE aggregate_id = {order}"),
        ("a saga's steps", "saga_steps", f"SELECT * FROM %s WHERE saga_id = '{saga_id}'"),
    ):
        one, parted = (_blocks(connection, query.replace("%s", name)) for name in (table, f"{table}_parted"))
        click.echo(f"{what:<48}{one:>10}{parted:>8}")


def _blocks(connection: Connection, query: str) -> int:
    """Return how many blocks a query looks at once its tables are known to the connection."""
    connection.exec_driver_sql(query)
    (plan,) = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}").scalar_one()
    return int(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])


def _get_rid(connection: Connection, table: str, key: str, parts: int) -> None:
    end = _bound(1, parts)
    rows = connection.exec_driver_sql(f"SELECT count(*) FROM {table} WHERE {key} < '{end}'").scalar_one()
    deleting = _timed(lambda: _delete_in_batches(connection, table, key, end))
    vacuuming = _timed(lambda: _run(connection, f"VACUUM {table}"))
    dropping = _timed(lambda: _run(connection, f"DROP TABLE {table}_parted_0"))
    click.echo(
        f"{table}: {rows:,} rows deleted in {deleting:.2f} s, and vacuumed in {vacuuming:.2f} s; "
        f"the same rows dropped with their part in {dropping * 1000:.0f} ms"
    )


def _delete_in_batches(connection: Connection, table: str, key: str, end: str) -> None:
    batch = f"SELECT {key} FROM {table} WHERE {key} < '{end}' ORDER BY {key} LIMIT {BATCH * STEPS_OF_A_SAGA}"
    while connection.exec_driver_sql(f"DELETE FROM {table} WHERE {key} IN ({batch})").rowcount:
        pass


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _run(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(statement)


@contextmanager
def _database() -> Iterator[Connection]:
    with fresh_postgresql_database() as url:
        migrate(url)
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            yield connection
        engine.dispose()


if __name__ == "__main__":
    main()
