"""Column types that PostgreSQL and SQLite share, the base of the engine's models, and instances without a session."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from sqlalchemy import JSON, DateTime, Dialect, MetaData, String, Table, TypeDecorator, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.orm.attributes import instance_dict

Model = TypeVar("Model", bound=DeclarativeBase)


class UtcDateTime(TypeDecorator[datetime]):
    """A timestamp in UTC, always timezone-aware in Python; SQLite, which has no such type, stores it naive."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return what the database stores."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  (SQLAlchemy's)
        """Return what Python sees."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""The names of constraints, so that migrations can refer to them."""

JSON_TYPE = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""JSON in which None is stored as NULL: a JSON null would be a second kind of nothing in SQL queries."""

UuidText = Uuid(as_uuid=False).with_variant(String(36), "sqlite")
"""A UUID that is text in Python, as in messages and URLs."""


class Base(DeclarativeBase):
    """The base of the engine's models, apart from those of the application."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy reads a plain dict here)
        datetime: UtcDateTime,
        dict[str, Any]: JSON_TYPE,
        list[Any]: JSON_TYPE,
    }


def table_of(model: type[DeclarativeBase]) -> Table:
    """Return a model's table, for Core statements on the session's connection.

    Such a statement sees only what the session has flushed, and the session does not see its changes. But it creates no
    objects, which takes several times as long as the database takes to answer.
    """
    return cast(Table, model.__table__)


def as_loaded(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Return an instance as if loaded by a query: later changes count as changes.

    It belongs to no session; added to one it is written as a new row. ``values`` are its attributes by name, which are
    not validated; missing ones are None. It takes a sixth of the time of the model's constructor.
    """
    return all_as_loaded(model, tuple(values), [tuple(values.values())])[0]


def all_as_loaded(model: type[Model], names: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[Model]:
    """Return an instance per row like ``as_loaded``; ``names`` are the attributes in the order of the rows' values."""
    mapper = model.__mapper__
    mapper.attrs  # noqa: B018  (its first use configures the mapper, which a query would have done)
    instances: list[Model] = []
    for row in rows:
        instance: Model = mapper.class_manager.new_instance()
        instance_dict(instance).update(zip(names, row, strict=True))
        instances.append(instance)
    return instances
