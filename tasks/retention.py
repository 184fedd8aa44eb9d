"""Retention rules: which saga or aggregate a table's rows belong to, and what happens before they are deleted.

Each service declares the rules of its own tables; ``workflows.operations.retention`` combines them.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import Table, delete, select
from sqlalchemy.orm import DeclarativeBase, Session

from durable_sagas.database import table_of

Ids = Sequence[str]


class Owner(StrEnum):
    """The owner of a table's rows."""

    SAGA = "saga"
    AGGREGATE = "aggregate"
    """The saga's aggregate: an order."""


@dataclass(frozen=True)
class RetentionRule:
    """Rows that are kept as long as their saga, or its aggregate, and deleted together with it."""

    rows: type[DeclarativeBase]
    column: str
    """The column with the owner's id; it must be the first column of an index."""
    owner: Owner = Owner.AGGREGATE
    before: Callable[[Session, Ids], None] | None = None
    """A hook of their service, called in the same transaction before the rows are deleted."""

    @property
    def table(self) -> Table:
        """Return the table."""
        return table_of(self.rows)

    def export(self, session: Session, owners: Ids) -> Mapping[str, Sequence[dict[str, Any]]]:
        """Return these owners' rows as plain JSON, by owner: amounts as exact text, times in ISO 8601."""
        table = self.table
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        query = select(table).where(table.c[self.column].in_(owners)).order_by(*table.primary_key)
        for row in session.execute(query).mappings():
            found[row[self.column]].append({name: _plain(value) for name, value in row.items()})
        return found

    def delete(self, session: Session, owners: Ids) -> int:
        """Delete these owners' rows; return their number."""
        if self.before:
            self.before(session, owners)
        rows = delete(self.table).where(self.table.c[self.column].in_(owners))
        return session.connection().execute(rows).rowcount


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, datetime) else value
