"""Manual completion: an operator reports that a failed compensation was done outside the system.

The saga then continues. The engine cannot verify such a report. So it stores who made it, and their note, beside the
failed attempts, and the audit accepts it only for what lies outside our own tables.
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
from app.saga.decisions import Abort, Compensate, Decision, Execute
from app.saga.definition import Command, Operation, StepStatus
from app.saga.models import SagaInstance, SagaStep


@dataclass(frozen=True)
class ManualCompletion:
    """An operator's report of a manual completion; ``step`` names the compensated step if several are stuck."""

    by: str
    note: str | None = None
    step: str | None = None


def record_completion(row: SagaStep, status: StepStatus, statement: ManualCompletion, now: datetime) -> None:
    """Log an operation as manually completed; its attempts and their errors stay."""
    row.status = status
    row.done_by = statement.by
    row.note = statement.note
    row.finished_at = now


def nothing_to_skip(saga: SagaInstance) -> Conflict:
    """Return the Conflict for a saga that is stuck on something other than a compensation."""
    return Conflict(
        "only a compensation can be done by hand, and it is stuck past the point of no return: resume it",
        status=saga.status,
    )


@dataclass(frozen=True, eq=False)
class PendingCompensation:
    """An exhausted compensation of a choreography: its row, its status once completed, and how to record that."""

    row: SagaStep
    status: StepStatus
    record: Callable[[Session, dict[str, Any]], Event | None]


def pending_compensation(row: SagaStep, decisions: Iterable[Decision]) -> PendingCompensation | None:
    """Return the compensation that a row stands for, by what the reactions decide now; None if it is not one."""
    for decision in decisions:
        match decision:
            case Compensate(action=action) if row.operation == Operation.COMPENSATION and action.short_name == row.step:
                return PendingCompensation(row, StepStatus.BY_HAND, partial(_undone, row, decision))
            case Execute(action) | Abort(action) if row.status == StepStatus.CLOSING and action.short_name == row.step:
                return PendingCompensation(row, StepStatus.FAILED, partial(_voided, row, action))
    return None


def choose(
    saga: SagaInstance, undoings: Sequence[PendingCompensation], statement: ManualCompletion
) -> list[PendingCompensation]:
    """Return the compensations of the one step that is reported, the one to record first in front.

    Of one step both the voiding of its action and its compensation may be exhausted: one report covers both.

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


def _undone(row: SagaStep, undo: Compensate, session: Session, data: dict[str, Any]) -> Event | None:
    barrier.block_action(session, row.saga_id, row.step, runtime.current().now(), None)
    event = record_manual_completion(undo.compensation, session, data)
    return event or (Event(undo.event_if_nothing_done) if undo.event_if_nothing_done else None)


def _voided(row: SagaStep, action: Command, session: Session, data: dict[str, Any]) -> Event | None:
    return refuse(action, session, data, row.error)


@contextmanager
def recording(saga: SagaInstance) -> Iterator[None]:
    """Raise Conflict if a service rejects the manual completion."""
    try:
        yield
    except StepError as error:
        raise Conflict(f"it cannot be recorded as done: {error}", status=saga.status) from error
