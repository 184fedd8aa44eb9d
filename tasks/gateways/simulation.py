"""What the simulated gateways share: answers that take their time, and a ledger that makes calls idempotent.

Ledgers stand for external databases. They are written in transactions of their own, so a crash between "the provider
charged" and "we recorded it" is possible here as in reality.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text
from sqlalchemy.orm import Session

from app import runtime
from app.database import Database
from app.errors import DatabaseUnavailable, StepUnavailable
from durable_sagas.database import dialect_of

_QUERY_CANCELED = "57014"


class SimulatedGateway:
    """A gateway that answers after the settings' latency, counted from the call; their timeout bounds the wait."""

    @property
    def database(self) -> Database:
        """The database with its ledger."""
        return runtime.current().database

    @contextmanager
    def call(self) -> Iterator[None]:
        """Run the block as the gateway's work, and delay its result, or its exception, by the latency.

        Raises StepUnavailable, with the work done, if the answer is due after the timeout. A DatabaseUnavailable
        propagates at once: the call did not reach the gateway, or its outcome is unknown, so there is no answer to wait
        for.
        """
        began = time.monotonic()
        reached = True
        try:
            yield
        except DatabaseUnavailable:
            reached = False
            raise
        finally:
            # after the work: until the answer arrives the caller does not know that the money was moved
            if reached:
                _wait_for_answer(began)

    @contextmanager
    def ledger_transaction(self) -> Iterator[Session]:
        """Run the block as the gateway's work in a transaction of its own. Raises StepUnavailable on a timeout.

        Every other fault of the database raises DatabaseUnavailable: a failed connection of this process, or a lost
        conflict, is no fault of the gateway, so it does not count as an attempt.
        """
        timeout = runtime.current().settings.gateway_timeout_seconds
        try:
            with self.call(), self.database.transaction() as session:
                if dialect_of(session) == "postgresql":
                    session.execute(text(f"SET LOCAL statement_timeout = {int(timeout * 1000)}"))
                yield session
        except DatabaseUnavailable as fault:
            if fault.sqlstate != _QUERY_CANCELED:
                raise
            raise StepUnavailable(f"the gateway did not answer: {fault}") from fault


def _wait_for_answer(began: float) -> None:
    current = runtime.current()
    latency, timeout = current.settings.gateway_latency_seconds, current.settings.gateway_timeout_seconds
    if latency and current.stopping.wait(max(0.0, began + min(latency, timeout) - time.monotonic())):
        raise StepUnavailable("the process is stopping, and does not wait for the gateway's answer")
    if latency > timeout:
        raise StepUnavailable(f"the gateway did not answer within {timeout:g} s")
