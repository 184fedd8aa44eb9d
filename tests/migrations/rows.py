"""The rows of a database as its own schema says, whatever the models say by now."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, Boolean, Connection, DateTime, Integer, MetaData, Numeric, Table, Uuid, select
from sqlalchemy.engine import Engine

Rows = Mapping[str, Sequence[dict[str, Any]]]


def schema(engine: Engine) -> MetaData:
    """Return the tables that a database has at this moment, but for Alembic's own."""
    reflected = MetaData()
    reflected.reflect(engine)
    reflected.remove(reflected.tables["alembic_version"])
    return reflected


def rows(engine: Engine, tables: MetaData) -> Rows:
    """Return all that these tables hold of the columns that they are known to have, in a steady order."""
    with engine.connect() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()]
            for table in tables.sorted_tables
        }


def use_as(connection: Connection, tables: MetaData) -> None:
    """Do to each table what code that knows these columns does: insert, select, update and delete."""
    written: dict[str, dict[str, Any]] = {}
    for table in tables.sorted_tables:
        row = {column.name: _value(column.type) for column in table.columns}
        for key in table.foreign_keys:
            row[key.parent.name] = written[key.column.table.name][key.column.name]
        connection.execute(table.insert().values(row))
        assert dict(connection.execute(select(table).where(*_where(table, row))).mappings().one()) == row
        written[table.name] = row
    for table in reversed(tables.sorted_tables):
        row = written[table.name]
        others = {name: value for name, value in row.items() if name not in table.primary_key.columns}
        if others:
            assert connection.execute(table.update().where(*_where(table, row)).values(others)).rowcount == 1
        assert connection.execute(table.delete().where(*_where(table, row))).rowcount == 1


def _where(table: Table, row: dict[str, Any]) -> list[Any]:
    return [column == row[column.name] for column in table.primary_key]


def _value(kind: Any) -> Any:
    """Return something that a column of this type takes; 0 as stock keeps every constraint."""
    values = {
        Uuid: UUID(int=7),
        Integer: 0,
        Numeric: Decimal("1.50"),
        Boolean: True,
        DateTime: datetime(2026, 1, 1, tzinfo=UTC),
        JSON: {"a": [1, "b"]},
    }
    return next((value for of_kind, value in values.items() if isinstance(kind, of_kind)), "x")
