"""What a statement costs, told without a clock: by its plan, the rows it read, the work of SQLite's machine."""

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from app.runtime import Runtime
from tests.testkit.processes import wait_for

Executed = tuple[str, Any]
"""A statement as it went to the driver, and its parameters."""

on_postgresql = pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)


def maintain(here: Runtime, command: str) -> None:
    """Do what PostgreSQL's autovacuum does in its own time."""
    with here.database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text(command))


def leave_to_the_test(here: Runtime, *tables: str) -> None:
    """Keep PostgreSQL's autovacuum from tables: when they are vacuumed and analyzed is the test's to choose."""
    for table in tables:
        maintain(here, f"ALTER TABLE {table} SET (autovacuum_enabled = off)")


def wait_until_dead_to_all(here: Runtime, transaction: int) -> None:
    """Wait until what a transaction of PostgreSQL deleted is dead to every snapshot.

    Only then do scans mark its index entries and does VACUUM remove it. A transaction that writes in another database
    keeps the oldest transaction of every new snapshot as low as itself.
    """
    seen = text(
        "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint <= :transaction OR EXISTS"
        " (SELECT FROM pg_stat_activity WHERE datname = current_database()"
        " AND age(backend_xmin) >= age(CAST(CAST(:transaction AS text) AS xid8)::xid))"
    )

    def dead() -> bool:
        with here.database.engine.connect() as connection:
            each = connection.execution_options(isolation_level="AUTOCOMMIT")
            return not each.scalar(seen, {"transaction": transaction})

    wait_for("every transaction to be gone that sees what was deleted", dead)


def explain(here: Runtime, one: Executed) -> dict[str, Any]:
    """Run a statement of PostgreSQL as it was run and undo it; returns its plan with what each node really read."""
    statement, parameters = one
    with here.database.engine.connect() as connection:
        explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
        return dict(connection.exec_driver_sql(explained, parameters).scalar_one()[0]["Plan"])


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def pages(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def steps_of_the_machine(here: Runtime, one: Executed) -> int:
    """Run a statement of SQLite and undo it; returns how many instructions of SQLite's virtual machine that took."""
    statement, parameters = one
    counted = 0

    def count() -> None:
        nonlocal counted
        counted += 1

    with here.database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.set_progress_handler(count, 1)
        connection.exec_driver_sql(statement, parameters).close()
        driver.set_progress_handler(None, 0)
    return counted


def sqlite_plan(here: Runtime, one: Executed) -> str:
    statement, parameters = one
    with here.database.engine.connect() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return " ".join(row.detail for row in rows)
