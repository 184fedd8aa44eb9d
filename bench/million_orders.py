"""Audit a shop of a million orders: ``python -m bench.million_orders [ORDERS …]``.

Makes a database of its own on PostgreSQL (``--server``, or TEST_DATABASE_URL), fills it, runs ``python -m app audit``
on it as a process of its own, and prints what that took. Then it breaks each invariant once and audits again: every
check must speak. The database is dropped at the end.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import click
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from app import runtime
from app.database import all_tables
from app.migrations import migrate
from app.runtime import Runtime
from app.settings import ROOT, Settings
from bench.audited_orders import FILL, VIOLATIONS
from workflows.operations.audit import CHECKS
from workflows.seed_data import seed

SERVER = os.environ.get("TEST_DATABASE_URL", "postgresql+psycopg2://postgres@127.0.0.1:5432/postgres")


@dataclass(frozen=True)
class Audited:
    """What one run of the audit took, and said."""

    seconds: float
    megabytes: float
    violated: set[str]


@click.command()
@click.argument("sizes", nargs=-1, type=click.IntRange(min=100))
@click.option("--server", default=SERVER, show_default=True, help="A database of the server, to connect to.")
def main(sizes: tuple[int, ...], server: str) -> None:
    """Audit shops of so many orders each; exit 1 if the audit misses or invents a violation."""
    failed = False
    for orders in sizes or (10_000, 100_000, 1_000_000):
        with shop(server, orders) as url:
            sound = audited(url)
            _say(f"{orders:>9,} orders audited in {sound.seconds:.1f} s, at most {sound.megabytes:.0f} MB: ", sound)
            violate(url)
            broken = audited(url)
            _say(f"{'':>9} with each invariant broken once, in {broken.seconds:.1f} s: ", broken)
            failed |= bool(sound.violated) or broken.violated != set(CHECKS)
    sys.exit(failed)


@contextmanager
def shop(server: str, orders: int, *, logged: bool = False) -> Iterator[str]:
    """Make a database of a shop of so many orders; yields its URL, and drops it at the end.

    Its tables are ``logged`` as a real shop's where it is to be written to and the time that takes counts.
    """
    name = f"cloudmart_bench_{uuid4().hex[:12]}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    try:
        began = time.monotonic()
        fill(url, orders, logged=logged)
        click.echo(f"{orders:>9,} orders written in {time.monotonic() - began:.1f} s")
        yield url
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def fill(url: str, orders: int, *, logged: bool = False) -> None:
    """Write so many orders into an empty database, with all that they leave behind; see ``shop``."""
    migrate(url)
    here = runtime.use(Runtime(Settings(database_url=url)))
    seed()
    # nothing here outlives the run, so nothing has to survive a crash
    tables = [] if logged else list(reversed(all_tables().values()))
    unlogged = [f"ALTER TABLE {table.name} SET UNLOGGED" for table in tables]
    _execute(here, [*unlogged, *(statement.replace(":orders", str(orders)) for statement in FILL)])
    with here.database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))
    here.close()


def violate(url: str) -> None:
    """Break each invariant once."""
    here = runtime.use(Runtime(Settings(database_url=url)))
    _execute(here, VIOLATIONS.values())
    here.close()


def audited(url: str) -> Audited:
    """Run the audit on a database as a process of its own."""
    environment = {**os.environ, "DATABASE_URL": url, "LOG_LEVEL": "WARNING"}
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([sys.executable, "-m", "app", "audit"], cwd=ROOT, env=environment, stdout=output)
        _, status, used = os.wait4(process.pid, 0)  # this child's own peak, and not that of all
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        output.seek(0)
        lines = output.read().splitlines()
    violated = {line.removeprefix("VIOLATED  ").partition(":")[0] for line in lines if line.startswith("VIOLATED")}
    if violated | {line.removeprefix("holds     ") for line in lines if line.startswith("holds")} != set(CHECKS):
        raise click.ClickException(f"the audit did not come to its end: {lines[-3:]}")
    return Audited(seconds, used.ru_maxrss / 1024, violated)


def _say(what: str, result: Audited) -> None:
    click.echo(f"{what}{len(result.violated)} of {len(CHECKS)} checks violated")


def _execute(here: Runtime, statements: Iterable[str]) -> None:
    with here.database.transaction() as session:
        for statement in statements:
            session.connection().exec_driver_sql(statement.replace("%", "%%"))


if __name__ == "__main__":
    main()
