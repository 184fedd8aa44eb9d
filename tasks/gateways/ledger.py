"""The ledger of a simulated gateway, whose unique key makes calls idempotent.

Ledgers stand for external databases. They are written in transactions of their own, so a crash between "the provider
charged" and "we recorded it" is possible here as in reality.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from sqlalchemy import Executable, Row, text
from sqlalchemy.orm import Session

from app.database import Base, Database, dialect_of, insert_in, table_of
from app.errors import DatabaseUnavailable, StepUnavailable
from tasks.gateways.simulated_network import SimulatedNetwork

_QUERY_CANCELED = "57014"


@contextmanager
def ledger_transaction(database: Database, network: SimulatedNetwork) -> Iterator[Session]:
    """Run a gateway's work in a transaction of its own. Raises StepUnavailable on a timeout.

    Every other fault of the database raises DatabaseUnavailable: a failed connection of this process, or a lost
    conflict, is no fault of the gateway, so it does not count as an attempt.
    """
    try:
        with network.call(), database.transaction() as session:
            if dialect_of(session) == "postgresql":
                session.execute(text(f"SET LOCAL statement_timeout = {int(network.timeout * 1000)}"))
            yield session
    except DatabaseUnavailable as fault:
        if fault.sqlstate != _QUERY_CANCELED:
            raise
        raise StepUnavailable(f"the gateway did not answer: {fault}") from fault


def insert_once(session: Session, ledger: type[Base], key: str, **values: Any) -> Row[Any]:
    """Insert an entry unless its idempotency key exists; return the entry of that key, locked."""
    statement = _insert_or_find(ledger, dialect_of(session))
    return session.connection().execute(statement, {"idempotency_key": key, **values}).one()


@cache
def _insert_or_find(ledger: type[Base], dialect: str) -> Executable:
    new = insert_in(dialect, table_of(ledger))
    # an existing entry is updated to itself, so that it is locked and returned like a new one
    as_it_is = {"idempotency_key": new.excluded.idempotency_key}
    written = new.on_conflict_do_update(index_elements=["idempotency_key"], set_=as_it_is)
    return written.returning(*table_of(ledger).columns)
