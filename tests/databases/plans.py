"""What a statement costs, told without a clock: by its plan, the rows it read, the work of SQLite's machine."""

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from app.runtime import Runtime

Executed = tuple[str, Any]
"""A statement as it went to the driver, and its parameters."""

on_postgresql = pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)


def maintain(here: Runtime, command: str) -> None:
    """Do what PostgreSQL's autovacuum does in its own time."""
    with here.database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text(command))


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
