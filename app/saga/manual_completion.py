"""What a compensation could not do, a person may do outside the system, and say so: the saga then goes on.

The engine cannot check what it is told here. So it keeps who said it and what they added beside the failed attempts,
and the audit believes it only of what lies outside our own tables.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from app import runtime
from app.errors import Conflict, StepError
from app.messages import Event
from app.saga import barrier
from app.saga.attempts import record_manual_completion, refuse
from app.saga.decisions import Act, Close, Decision, Undo
from app.saga.definition import Command, Operation, StepStatus
from app.saga.models import SagaInstance, SagaStep


@dataclass(frozen=True)
class ManualCompletion:
    """Somebody's word that they did a compensation by hand; ``step``, where several are stuck, is what it undoes."""

    by: str
    note: str | None = None
    step: str | None = None


def record_completion(row: SagaStep, status: StepStatus, statement: ManualCompletion, now: datetime) -> None:
    """Log that an operation ended as somebody says; its attempts and their errors stay."""
    row.status = status
    row.done_by = statement.by
    row.note = statement.note
    row.finished_at = now


def nothing_to_skip(saga: SagaInstance) -> Conflict:
    """Return the refusal of a saga that is stuck on something else than a compensation."""
    return Conflict(
        "only a compensation can be done by hand, and it is stuck past the point of no return: resume it",
        status=saga.status,
    )


@dataclass(frozen=True, eq=False)
class PendingCompensation:
    """A choreographed undoing that was given up: its row, what it is once a person did it, and who records that."""

    row: SagaStep
    status: StepStatus
    record: Callable[[Session, dict[str, Any]], Event | None]


def pending_compensation(row: SagaStep, decisions: Iterable[Decision]) -> PendingCompensation | None:
    """Return what was given up, by what the reactions would do now; None if it was no undoing."""
    for decision in decisions:
        match decision:
            case Undo(action=action) if row.operation == Operation.COMPENSATION and action.short_name == row.step:
                return PendingCompensation(row, StepStatus.BY_HAND, partial(_undone, row, decision))
            case Act(action) | Close(action) if row.status == StepStatus.CLOSING and action.short_name == row.step:
                return PendingCompensation(row, StepStatus.FAILED, partial(_voided, row, action))
    return None


def choose(
    saga: SagaInstance, undoings: Sequence[PendingCompensation], statement: ManualCompletion
) -> list[PendingCompensation]:
    """Return the undoings of the one step that a statement is about, the one to be recorded first.

    A step's action may have been given up while it was voided, and its compensation as well: one word covers both.
    Raises Conflict if there is none, or more than one step.
    """
    if not undoings:
        raise nothing_to_skip(saga)
    chosen = [undoing for undoing in undoings if statement.step in {None, undoing.row.step}]
    if len({undoing.row.step for undoing in chosen}) != 1:
        steps = " and on ".join(sorted({undoing.row.step for undoing in undoings}))
        asked = f", not on {statement.step}" if statement.step else ": say which step you mean"
        raise Conflict(f"it is stuck on {steps}{asked}", status=saga.status)
    return sorted(chosen, key=lambda undoing: undoing.row.operation == Operation.ACTION)


def _undone(row: SagaStep, undo: Undo, session: Session, data: dict[str, Any]) -> Event | None:
    barrier.block_action(session, row.saga_id, row.step, runtime.current().now(), None)
    event = record_manual_completion(undo.compensation, session, data)
    return event or (Event(undo.otherwise) if undo.otherwise else None)


def _voided(row: SagaStep, action: Command, session: Session, data: dict[str, Any]) -> Event | None:
    return refuse(action, session, data, row.error)


@contextmanager
def recording(saga: SagaInstance) -> Iterator[None]:
    """Turn a service's no to the record into a Conflict."""
    try:
        yield
    except StepError as error:
        raise Conflict(f"it cannot be recorded as done: {error}", status=saga.status) from error
