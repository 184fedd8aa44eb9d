"""Statements for one table, each built once per model and dialect: building one takes longer than executing it.

They see the session's pending changes, but do not update its objects: rows to insert are instances that belong to no
session, and loaded objects keep their values. Finding changes takes a flush longer than writing them.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Column, ColumnElement, CursorResult, Executable, Row, bindparam, func, select, update
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.orm.attributes import instance_dict

from durable_sagas.database import as_loaded, insert_in, table_of
from durable_sagas.database.types import Model


def lock_rows(
    session: Session, model: type[DeclarativeBase], keys: Collection[Any], *, returning: Sequence[str]
) -> Sequence[Row[Any]]:
    """Lock the rows with these primary keys, each of one column; return columns of these rows.

    They are locked in the order of their keys, so that two transactions that lock the same rows cannot deadlock.
    """
    return _execute(session, _lock_rows(model, tuple(returning)), {"keys": list(keys)}).all()


def update_where(
    session: Session,
    model: type[DeclarativeBase],
    where: Mapping[str, Any],
    values: Mapping[str, Any],
    *,
    returning: Sequence[str],
) -> Sequence[Row[Any]]:
    """Set columns of the rows in which other columns have the values ``where``; return columns of these rows."""
    statement = _update_where(model, tuple(where), tuple(values), tuple(returning))
    parameters = {f"old_{name}": value for name, value in where.items()}
    parameters |= {f"new_{name}": value for name, value in values.items()}
    return _execute(session, statement, parameters).all()


def add_to_columns(session: Session, model: type[DeclarativeBase], rows: Sequence[Mapping[str, Any]]) -> None:
    """Add to numeric columns of existing rows, in one statement.

    Each of ``rows`` maps the primary key's columns to their values, and other columns to what is added to them. All
    have the same columns.
    """
    if rows:
        parameters = [{f"by_{name}": value for name, value in row.items()} for row in rows]
        _execute(session, _add_to_columns(model, tuple(rows[0])), parameters)


def insert_new(session: Session, rows: Sequence[DeclarativeBase]) -> int:
    """Insert rows of one table in one statement, without those whose key exists; return the number inserted.

    A conflict must not be an error: PostgreSQL would log the whole statement, with its values.
    """
    if not rows:
        return 0
    statement = _insert_new(type(rows[0]), session.get_bind().dialect.name)
    return len(_execute(session, statement, [_values(row) for row in rows]).all())


def insert_once(session: Session, row: Model) -> Model:
    """Insert a row unless its primary key exists; return the row that is stored under this key, locked."""
    statement = _insert_once(type(row), session.get_bind().dialect.name)
    return as_loaded(type(row), _execute(session, statement, _values(row)).one()._asdict())


def upsert(session: Session, row: DeclarativeBase, *, key: str, keep: Sequence[str] = ()) -> None:
    """Insert a row, or update the one that has the same value in the unique column ``key``.

    An update leaves the columns ``keep`` as they are, unless they are NULL.
    """
    statement = _upsert(type(row), session.get_bind().dialect.name, key, tuple(keep))
    _execute(session, statement, _values(row))


def _execute(session: Session, statement: Executable, parameters: Any) -> CursorResult[Any]:
    session.flush()
    return session.connection().execute(statement, parameters)


def _values(row: DeclarativeBase) -> dict[str, Any]:
    return {name: value for name, value in instance_dict(row).items() if name in row.__table__.columns}


def _primary_key(model: type[DeclarativeBase]) -> list[Column[Any]]:
    return list(table_of(model).primary_key.columns)


def _parameter(column: Column[Any], prefix: str) -> ColumnElement[Any]:
    # an UPDATE reserves the plain names of the columns
    return bindparam(f"{prefix}_{column.name}", type_=column.type)


@cache
def _lock_rows(model: type[DeclarativeBase], returning: Sequence[str]) -> Executable:
    [key] = _primary_key(model)
    columns = (table_of(model).columns[name] for name in returning)
    return select(*columns).where(key.in_(bindparam("keys", expanding=True))).order_by(key).with_for_update()


@cache
def _update_where(
    model: type[DeclarativeBase], where: Sequence[str], values: Sequence[str], returning: Sequence[str]
) -> Executable:
    columns = table_of(model).columns
    return (
        update(table_of(model))
        .where(*(columns[name] == _parameter(columns[name], "old") for name in where))
        .values({name: _parameter(columns[name], "new") for name in values})
        .returning(*(columns[name] for name in returning))
    )


@cache
def _add_to_columns(model: type[DeclarativeBase], names: Sequence[str]) -> Executable:
    columns, key = table_of(model).columns, _primary_key(model)
    added = {name: columns[name] + _parameter(columns[name], "by") for name in names if columns[name] not in set(key)}
    return update(table_of(model)).where(*(column == _parameter(column, "by") for column in key)).values(added)


@cache
def _insert_new(model: type[DeclarativeBase], dialect: str) -> Executable:
    return insert_in(dialect, table_of(model)).on_conflict_do_nothing().returning(*_primary_key(model))


@cache
def _insert_once(model: type[DeclarativeBase], dialect: str) -> Executable:
    new = insert_in(dialect, table_of(model))
    key = [column.name for column in _primary_key(model)]
    # an existing row is updated to itself, so that it is locked and returned like a new one
    unchanged = {name: new.excluded[name] for name in key}
    return new.on_conflict_do_update(index_elements=key, set_=unchanged).returning(*table_of(model).columns)


@cache
def _upsert(model: type[DeclarativeBase], dialect: str, key: str, keep: Sequence[str]) -> Executable:
    new = insert_in(dialect, table_of(model))
    changes: dict[str, ColumnElement[Any]] = {}
    for column in table_of(model).columns:
        given = new.excluded[column.name]
        changes[column.name] = func.coalesce(column, given) if column.name in keep else given
    del changes[key]
    return new.on_conflict_do_update(index_elements=[key], set_=changes)
