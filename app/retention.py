"""What every table says of itself so that its rows can go: whose they are, and what is to be done before they do.

A service owns its tables, so it says this beside them; ``workflows.operations.retention`` puts it together.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import Table, delete, select
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from app.database import Base

Ids = Sequence[str]


class Of(StrEnum):
    """What a table's rows belong to."""

    SAGA = "saga"
    AGGREGATE = "aggregate"
    """What the saga is about: an order."""


@dataclass(frozen=True)
class RetentionRule:
    """Rows that are kept as long as the saga that they belong to, or what it is about, and go together with it."""

    rows: type[Base]
    column: str
    """The column that names what they belong to; an index has to begin with it."""
    of: Of = Of.AGGREGATE
    before: Callable[[Session, Ids], None] | None = None
    """What their service does, in the same transaction, before they go."""

    @property
    def table(self) -> Table:
        """Return the table."""
        table = self.rows.__table__
        assert isinstance(table, Table)
        return table

    def export(self, session: Session, owners: Ids) -> Mapping[str, Sequence[dict[str, Any]]]:
        """Return these owners' rows as plain JSON, by owner: amounts as exact text, times in ISO 8601."""
        table = self.table
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        query = select(table).where(table.c[self.column].in_(owners)).order_by(*table.primary_key)
        for row in session.execute(query).mappings():
            found[row[self.column]].append({name: _plain(value) for name, value in row.items()})
        return found

    def delete(self, session: Session, owners: Ids) -> int:
        """Delete these owners' rows; returns how many there were."""
        if self.before:
            self.before(session, owners)
        result = session.execute(delete(self.table).where(self.table.c[self.column].in_(owners)))
        assert isinstance(result, CursorResult)
        return result.rowcount


def tables(kept: Iterable[RetentionRule]) -> set[str]:
    """Return the names of the tables that these are rows of."""
    return {part.table.name for part in kept}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, datetime) else value
