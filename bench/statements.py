"""Where an order's time goes in PostgreSQL: ``python -m bench.statements [--orders 100] [--rounds 5]``.

Places orders in this process, on a database of its own (TEST_DATABASE_URL), with Celery in the caller, so that nothing
but the shop's own statements is counted. Then it does the same with ``synchronous_commit`` on and off, in turns: the
difference is what waiting for the disk costs. And it counts what the requests that only read ask for.
"""

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from flask.testing import FlaskClient
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import PoolProxiedConnection

from app import runtime
from app.celery import app as celery
from app.celery import configuration
from app.migrations import migrate
from app.runtime import Runtime
from app.settings import Settings
from tests.testkit.servers import fresh_postgresql_database
from web import create_app
from workflows.seed_data import seed

READS = ("/sagas/{saga}", "/sagas", "/api/v1/sagas/{saga}", "/api/v1/sagas/{saga}/history", "/api/v1/orders/{order}")
PATTERNS = ("orchestration", "choreography")


class Counted:
    """What an engine was asked for, and how long it took to answer."""

    def __init__(self, engine: Engine) -> None:
        self.verbs: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._began = 0.0
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "after_cursor_execute", self._after)
        event.listen(engine, "rollback", lambda connection: connection.info.pop("wrote", None))
        self._commit = engine.dialect.do_commit
        engine.dialect.do_commit = self._timed_commit  # type: ignore[assignment,method-assign]

    def clear(self) -> None:
        """Begin anew."""
        self.verbs.clear()
        self.seconds.clear()

    @property
    def statements(self) -> int:
        """How many statements there were, commits not counted."""
        return sum(count for verb, count in self.verbs.items() if "commit" not in verb)

    def _before(self, *_: Any) -> None:
        self._began = time.perf_counter()

    def _after(self, connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        self.seconds["statements"] += time.perf_counter() - self._began
        verb = statement.split(maxsplit=1)[0].upper()
        if verb not in {"BEGIN", "SELECT", "SET"} or "FOR UPDATE" in statement:
            connection.info["wrote"] = True
        self.verbs[verb] += 1

    def _timed_commit(self, connection: PoolProxiedConnection) -> None:
        began = time.perf_counter()
        self._commit(connection)
        kind = "commits that wrote" if connection.info.pop("wrote", False) else "commits that only read"
        self.seconds[kind] += time.perf_counter() - began
        self.verbs[kind] += 1


@click.command(help=__doc__.partition("\n\n")[0])
@click.option("--orders", type=click.IntRange(5, 100_000), default=100, show_default=True, help="Of each round.")
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True)
def main(orders: int, rounds: int) -> None:
    """Count, measure and print."""
    with fresh_postgresql_database() as url:
        migrate(url)
        with _shop(url) as (client, counted):
            _print_counts(client, counted)
            _print_reads(client, counted)
        _print_times(url, orders, rounds)


def _print_counts(client: FlaskClient, counted: Counted) -> None:
    for pattern in PATTERNS:
        _place(client, pattern)
        counted.clear()
        _place(client, pattern)
        verbs = ", ".join(f"{count} {verb}" for verb, count in counted.verbs.most_common())
        click.echo(f"an order by {pattern}: {counted.statements} statements ({verbs})")


def _print_reads(client: FlaskClient, counted: Counted) -> None:
    placed = _place(client, PATTERNS[0])
    for path in READS:
        address = path.format(saga=placed["saga_id"], order=placed["order_id"])
        client.get(address)
        counted.clear()
        status = client.get(address).status_code
        if status != 200:
            raise click.ClickException(f"{address} answered {status}")
        click.echo(f"GET {path}: {counted.statements} statements, {counted.verbs['commits that wrote']} writes")


def _print_times(url: str, orders: int, rounds: int) -> None:
    variants = {"on": url, "off": f"{url}?options=-csynchronous_commit%3Doff"}
    took: dict[str, list[tuple[float, float, float]]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            with _shop(variant) as (client, counted):
                _place(client, PATTERNS[0])
                counted.clear()
                began = time.perf_counter()
                for _ in range(orders):
                    _place(client, PATTERNS[0])
                whole = time.perf_counter() - began
                commits = counted.seconds["commits that wrote"] + counted.seconds["commits that only read"]
                took[name].append((whole, counted.seconds["statements"], commits))
    for name, times in took.items():
        whole, statements, commits = (
            1000 * statistics.median(one[place] for one in times) / orders for place in range(3)
        )
        click.echo(
            f"synchronous_commit {name:<4}{whole:>7.1f} ms of each order in one thread: "
            f"{statements:.1f} in statements, {commits:.1f} in commits"
        )


def _place(client: FlaskClient, pattern: str) -> dict[str, Any]:
    body = {"items": [{"product_id": "item-001", "quantity": 1}], "pattern": pattern}
    answer = client.post("/api/v1/orders", json=body)
    if answer.status_code != 202:
        raise click.ClickException(f"an order was answered with {answer.status_code}: {answer.text}")
    return dict(answer.get_json())


@contextmanager
def _shop(url: str) -> Iterator[tuple[FlaskClient, Counted]]:
    settings = Settings(database_url=url, broker_url="memory://", log_level="ERROR", stall_seconds=600)
    here = runtime.use(Runtime(settings))
    try:
        seed()
        with here.database.transaction() as session:
            session.connection().exec_driver_sql(
                "UPDATE inventory SET available_stock = available_stock + 1e6, received_stock = received_stock + 1e6"
            )
        celery.conf.update(configuration(settings), task_always_eager=True)
        yield create_app().test_client(), Counted(here.database.engine)
    finally:
        here.close()


if __name__ == "__main__":
    main()
