"""A saga's log, told attempt by attempt."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.saga.definition import Operation, StepStatus
from app.saga.models import SagaStep


@dataclass(frozen=True)
class Attempt:
    """One attempt at one operation of one step.

    ``outcome`` is a StepStatus, or ``failed`` for one that was retried. ``number`` counts from 1; 0 stands for an
    action that was refused before it could run. ``error`` is what went wrong, or who did by hand what had.
    """

    step: str
    operation: Operation
    outcome: str
    number: int
    started_at: datetime
    finished_at: datetime | None
    error: str | None

    @property
    def milliseconds(self) -> float | None:
        """Return how long it took, or None while it has not ended."""
        if self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds() * 1000


def timeline(session: Session, saga_id: str) -> list[Attempt]:
    """Return every attempt that the log of a saga holds, in the order in which they began."""
    rows = session.scalars(select(SagaStep).where(SagaStep.saga_id == saga_id))
    attempts = [attempt for row in rows for attempt in _attempts(row)]
    return sorted(attempts, key=lambda attempt: (attempt.started_at, attempt.operation, attempt.number))


def _attempts(row: SagaStep) -> Iterable[Attempt]:
    for failure in row.failures:
        yield Attempt(
            row.step,
            row.operation,
            "failed",
            failure["attempt"],
            datetime.fromisoformat(failure["started_at"]),
            datetime.fromisoformat(failure["finished_at"]),
            failure["error"],
        )
    if row.done_by and row.finished_at:
        word = f"as {row.done_by} said: {row.note}" if row.note else f"as {row.done_by} said"
        yield Attempt(
            row.step, row.operation, StepStatus.BY_HAND, row.attempts + 1, row.finished_at, row.finished_at, word
        )
    # what was given up is told by its last failure already; the rest ended, or was refused, after its failures
    elif row.status != StepStatus.RETRYING and not (row.status == StepStatus.FAILED and row.failures):
        yield Attempt(row.step, row.operation, row.status, row.attempts, row.started_at, row.finished_at, row.error)
