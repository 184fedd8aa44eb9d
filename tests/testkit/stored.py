"""What the current runtime's database holds of a saga or an order."""

from typing import Any

from sqlalchemy import text

from app import runtime
from durable_sagas.models import SagaInstance, SagaStep


def saga(saga_id: str) -> SagaInstance:
    with runtime.current().database.reading() as session:
        return session.get_one(SagaInstance, saga_id)


def step(saga_id: str, name: str, operation: str = "action") -> SagaStep:
    with runtime.current().database.reading() as session:
        return session.get_one(SagaStep, (saga_id, name, operation))


def logged(saga_id: str, name: str, operation: str = "action") -> tuple[str, int, list[str]] | None:
    """Return the status, the attempts and the errors that the log holds of an operation, or None."""
    with runtime.current().database.reading() as session:
        row = session.get(SagaStep, (saga_id, name, operation))
        return (row.status, row.attempts, [failure["error"] for failure in row.failures]) if row else None


def statuses(*saga_ids: str) -> list[str]:
    return [saga(saga_id).status for saga_id in saga_ids]


def column(statement: str, **parameters: Any) -> list[Any]:
    """Return the first column of a query's rows."""
    with runtime.current().database.reading() as session:
        return list(session.scalars(text(statement), parameters))


def events(saga_id: str) -> list[str]:
    """Return the types of a saga's events, in order; no sequence number may be missing or there twice."""
    of_saga = "aggregate_id = (SELECT order_id FROM saga_instances WHERE id = :id) ORDER BY sequence"
    sequences = column(f"SELECT sequence FROM events WHERE {of_saga}", id=saga_id)
    assert sequences == list(range(1, len(sequences) + 1))
    return column(f"SELECT event_type FROM events WHERE {of_saga}", id=saga_id)
