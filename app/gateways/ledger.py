"""What both simulated gateways have in common: a ledger of their own, whose unique key makes a repeated call harmless.

The ledgers stand for databases of somebody else. They are written in transactions of their own, so a crash between
"the provider charged" and "we recorded it" is possible here as it is out there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.database import Base, Database, insert_if_absent
from app.errors import DatabaseFault, StepUnavailable
from app.gateways.line import Line

Entry = TypeVar("Entry", bound=Base)


@contextmanager
def gateway_call(database: Database, line: Line) -> Iterator[Session]:
    """Run a gateway's work in a transaction of its own; raises StepUnavailable when it does not answer in time."""
    try:
        with line.call(), database.transaction() as session:
            if session.get_bind().dialect.name == "postgresql":
                session.execute(text(f"SET LOCAL statement_timeout = {int(line.timeout * 1000)}"))
            yield session
    except DatabaseFault as error:
        raise StepUnavailable(f"the gateway did not answer: {error}") from error


def first_entry(session: Session, table: type[Entry], key: str, **values: Any) -> Entry:
    """Write an entry under an idempotency key unless there is one; returns whichever was first, locked."""
    insert = insert_if_absent(session, table).values(idempotency_key=key, **values)
    session.execute(insert.on_conflict_do_nothing(index_elements=["idempotency_key"]))
    query = select(table).where(table.__table__.c.idempotency_key == key).with_for_update()
    return session.scalars(query).one()
