"""The ledger of a simulated gateway, whose unique key makes calls idempotent.

Ledgers stand for external databases. They are written in transactions of their own, so a crash between "the provider
charged" and "we recorded it" is possible here as in reality.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.database import Database
from app.errors import DatabaseUnavailable, StepUnavailable
from durable_sagas.database import dialect_of
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
