"""Measure the pages: ``python -m bench.pages --sagas 100000 [--database-url …]``.

Fills a database of its own with generated sagas (a SQLite file, or one on the PostgreSQL server of ``--database-url``),
and asks for every page in turn, each many times, in this process: so what is measured is the server's time, without
network or browser. Exits 1 if half of the requests for a page, or more, take longer than the limit.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import click
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.engine import make_url
from werkzeug.routing import Rule

from app import runtime
from app.database import Database
from app.migrations import migrate
from app.runtime import Runtime
from app.settings import Settings
from bench.generated_sagas import generate, saga_id
from web import create_app
from workflows.seed_data import seed

LIMIT_MS = 100
PASSWORD = "long enough for a bench"
STREAMS = "live"
"""Pages of this name answer for as long as somebody listens: nothing to be measured here."""


@dataclass(frozen=True)
class Measured:
    """What the server took to answer, in milliseconds, and how; ``own`` without the database and other processes."""

    median: float
    p95: float
    own: float
    status: int
    kilobytes: float


@click.command()
@click.option("--sagas", default=100_000, show_default=True, type=click.IntRange(min=1000))
@click.option("--requests", default=50, show_default=True, type=click.IntRange(min=3))
@click.option("--database-url", help="A database of a PostgreSQL server, to connect to; unset: a SQLite file.")
@click.option("--only", default="", help="Only the pages whose path holds this.")
def main(sagas: int, requests: int, database_url: str | None, only: str) -> None:
    """Measure every page beside a few sagas and beside many."""
    few = 1000
    with _database(database_url) as url, _here(url) as here:
        app = create_app()
        client = _operator(app)
        generate(here, 1, few)
        before = {path: measure(client, path, requests) for path in pages(app, few) if only in path}
        began = time.monotonic()
        if sagas > few:
            generate(here, few + 1, sagas)
        click.echo(f"{sagas:,} sagas on {here.database.engine.dialect.name}, in {time.monotonic() - began:.0f} s")
        click.echo(f"{'page':<72}{'status':>7}{'kB':>7}{'median':>9}{'p95':>9}{'own':>9}{'few':>9}  ms")
        slow = False
        for path, beside_few in before.items():
            took = measure(client, path, requests)
            slow |= took.median > LIMIT_MS
            figures = f"{took.status:>7}{took.kilobytes:>7.0f}{took.median:>9.1f}{took.p95:>9.1f}{took.own:>9.1f}"
            figures += f"{beside_few.median:>9.1f}"
            click.echo(f"{path[:71]:<72}{figures}{'  TOO SLOW' if took.median > LIMIT_MS else ''}")
    sys.exit(slow)


def pages(app: Flask, last: int) -> Iterator[str]:
    """Yield the path of every page, for several sagas where it is about one, and of the list with several filters."""
    completed, stuck, undone = (saga_id(number) for number in (last, 501, last - 1))
    sagas = {"completed": completed, "stuck": stuck, "undone": undone}
    for rule in app.url_map.iter_rules():
        if (
            rule.methods
            and "GET" in rule.methods
            and rule.endpoint.startswith("pages.")
            and STREAMS not in rule.endpoint
        ):
            yield from _paths(app, rule, sagas)
    middle = "order-500"
    yield from (f"/sagas/find?q={identifier}" for identifier in (middle, "txn-500", "CM500", "buyer-5", "none"))
    for query in (
        "status=completed",
        "status=stuck",
        "status=pending",
        "saga_type=order",
        "step=process_payment",
        "customer_id=buyer-7",
        "customer_id=nobody",
        "customer_id=buyer-7&status=compensated&saga_type=order",
        "status=stuck&step=process_payment&saga_type=order&customer_id=buyer-1",
    ):
        yield f"/sagas?{query}"


def _paths(app: Flask, rule: Rule, sagas: Mapping[str, str]) -> Iterator[str]:
    known: dict[str, Callable[[str], str]] = {
        "saga_id": lambda saga: saga,
        "first_id": lambda saga: saga,
        "second_id": lambda _: sagas["undone"],
        "book_id": lambda _: "item-001",
        "step": lambda _: "process_payment",
        "slug": lambda _: "conflict",
    }
    if unknown := rule.arguments - set(known):
        click.echo(f"not measured, for want of {', '.join(sorted(unknown))}: {rule.rule}", err=True)
        return
    with app.test_request_context():
        adapter = app.create_url_adapter(None) or app.url_map.bind("localhost")
        for saga in sagas.values() if rule.arguments else [""]:
            yield adapter.build(rule.endpoint, {name: known[name](saga) for name in rule.arguments})


def measure(client: FlaskClient, path: str, requests: int) -> Measured:
    """Ask for a page so often, after a first time that does not count."""
    took, worked = [], []
    response = client.get(path, headers={"Accept": "text/html"})
    for _ in range(requests):
        began, began_work = time.perf_counter(), time.process_time()
        response = client.get(path, headers={"Accept": "text/html"})
        worked.append((time.process_time() - began_work) * 1000)
        took.append((time.perf_counter() - began) * 1000)
    if response.status_code >= 500:
        raise click.ClickException(f"{path} answered {response.status_code}")
    p95 = statistics.quantiles(took, n=20)[-1]
    return Measured(
        statistics.median(took), p95, statistics.median(worked), response.status_code, len(response.data) / 1024
    )


def _operator(app: Flask) -> FlaskClient:
    app.config["WTF_CSRF_ENABLED"] = False  # as if the form had been asked for
    client = app.test_client()
    answer = client.post("/operator/login", data={"name": "bench", "password": PASSWORD})
    if answer.status_code != 303:
        raise click.ClickException(f"no operator could log in: {answer.status_code}")
    return client


@contextmanager
def _database(server: str | None) -> Iterator[str]:
    if server is None:
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{Path(folder) / 'pages.db'}"
        return
    name = f"cloudmart_pages_{uuid4().hex[:12]}"
    admin = Database(server)
    with admin.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(
                text(f"DROP DATABASE {name} WITH (FORCE)")
            )
        admin.close()


@contextmanager
def _here(url: str) -> Iterator[Runtime]:
    migrate(url)
    here = runtime.use(Runtime(Settings(database_url=url, log_level="ERROR", operator_password=SecretStr(PASSWORD))))
    seed()
    yield here
    here.close()


if __name__ == "__main__":
    main()
