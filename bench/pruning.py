"""What pruning costs a shop at work: ``python -m bench.pruning [--orders N] [--seconds S]``.

Fills a database of its own on PostgreSQL with old orders, lets an embedded shop take orders as fast as it can, with a
``prune`` beside it and without by turns, and prints rows pruned per second and the ratio of orders settled.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import click
from sqlalchemy import text

from app import runtime
from app.runtime import Runtime
from app.settings import ROOT, Settings
from bench.million_orders import SERVER, shop
from cli.embedded import embedded_stack
from workflows.operations.audit import audit
from workflows.orders import Item, NewOrder, Pattern, place

AT_ONCE = 50
"""How many orders are unsettled at most."""


@click.command()
@click.option("--orders", default=20_000, show_default=True, help="Old orders to begin with.")
@click.option("--seconds", default=10.0, show_default=True, help="How long each turn takes.")
@click.option("--turns", default=3, show_default=True, help="How many turns there are of each kind.")
@click.option("--server", default=SERVER, show_default=True, help="A database of the server, to connect to.")
def main(orders: int, seconds: float, turns: int, server: str) -> None:
    """Print how fast pruning goes beside a shop at work, and how much it slows the shop down."""
    with shop(server, orders) as url:
        here = runtime.use(Runtime(Settings(database_url=url, broker_url="memory://", log_level="ERROR")))
        with here.database.transaction() as session:
            session.execute(text("UPDATE saga_instances SET updated_at = '2025-01-01'"))
        rows = _rows(here)
        settled: dict[bool, float] = {True: 0, False: 0}
        pruned, pruning_seconds = 0, 0.0
        with embedded_stack(here), _customers(here):
            for turn in range(2 * turns):
                beside = bool(turn % 2)
                before, left, began = _settled(here), _old(here), time.monotonic()
                with _prune(url) if beside else nullcontext():
                    time.sleep(seconds)  # the interval that is measured
                took = time.monotonic() - began
                settled[beside] += (_settled(here) - before) / took
                if beside:
                    pruned, pruning_seconds = pruned + left - _old(here), pruning_seconds + took
        click.echo(f"without prune {settled[False] / turns:.1f} orders/s, beside it {settled[True] / turns:.1f}")
        click.echo(
            f"ratio {settled[True] / settled[False]:.2f}; {pruned} old orders pruned in {pruning_seconds:.0f} s:"
        )
        click.echo(f"{pruned * rows / orders / pruning_seconds:.0f} rows/s; violations: {len(list(audit()))}")
        here.close()


@contextmanager
def _prune(url: str) -> Iterator[None]:
    command = [sys.executable, "-m", "app", "prune", "--older-than", "90d"]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "DATABASE_URL": url}, stdout=subprocess.DEVNULL) as one:
        try:
            yield
        finally:
            one.terminate()


@contextmanager
def _customers(here: Runtime) -> Iterator[None]:
    stop = threading.Event()

    def order() -> None:
        while not stop.is_set():
            if _unsettled(here) >= AT_ONCE:
                time.sleep(0.05)  # until there is room for another order
                continue
            for number in range(10):
                place(NewOrder((Item("item-001", 1),), list(Pattern)[number % 2]))

    customer = threading.Thread(target=order)
    customer.start()
    try:
        yield
    finally:
        stop.set()
        customer.join()
        give_up = time.monotonic() + 60
        while _unsettled(here) and time.monotonic() < give_up:
            time.sleep(0.1)  # a bounded poll until all have ended


def _settled(here: Runtime) -> int:
    return _number(here, "SELECT count(*) FROM orders WHERE id NOT LIKE 'order-%' AND status <> 'pending'")


def _unsettled(here: Runtime) -> int:
    return _number(here, "SELECT count(*) FROM saga_instances WHERE wake_at IS NOT NULL")


def _old(here: Runtime) -> int:
    return _number(here, "SELECT count(*) FROM orders WHERE id LIKE 'order-%'")


def _rows(here: Runtime) -> int:
    tables = ("orders", "order_items", "payments", "shipments", "stock_reservations", "events", "saga_instances",
              "saga_steps", "payment_provider_ledger", "carrier_ledger")  # fmt: skip
    return sum(_number(here, f"SELECT count(*) FROM {table}") for table in tables)


def _number(here: Runtime, statement: str) -> int:
    with here.database.reading() as session:
        return int(session.scalar(text(statement)) or 0)


if __name__ == "__main__":
    main()
