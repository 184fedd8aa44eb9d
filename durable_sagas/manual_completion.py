"""Manual completion: an operator reports that a failed compensation was done outside the system.

The saga then continues. The engine cannot verify such a report. So it stores who made it, and their note, beside the
failed attempts, and the audit accepts it only for what lies outside our own tables.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from durable_sagas.definition import Command, Operation, StepStatus, takes_reason
from durable_sagas.errors import Conflict, StepError, format_error
from durable_sagas.execution import record_rejection
from durable_sagas.messages import Event
from durable_sagas.models import SagaInstance, SagaStep
from durable_sagas.reactions import Abort, Compensate, Decision, Execute
from durable_sagas.saga_log import SagaRecord


@dataclass(frozen=True)
class ManualCompletion:
    """An operator's report of a manual completion; ``step`` names the compensated step if several are stuck."""

    by: str
    note: str | None = None
    step: str | None = None


def call_handler(
    compensation: Command, session: Session, payload: Mapping[str, Any], reason: str | None
) -> Event | None:
    """Let the service record a compensation that was completed manually, if it has a handler for that."""
    handler = compensation.on_manual_completion
    if handler is None:
        return None  # so a saga whose payload is invalid can still be ended
    message = compensation.message(payload)
    return handler(session, message, reason=reason) if takes_reason(handler) else handler(session, message)


def record_completion(entry: SagaStep, status: StepStatus, report: ManualCompletion, now: datetime) -> None:
    """Log an operation as manually completed; its attempts and their errors stay."""
    entry.status = status
    entry.done_by = report.by
    entry.note = report.note
    entry.finished_at = now


def nothing_to_skip(saga: SagaInstance) -> Conflict:
    """Return the Conflict for a saga that is stuck on something other than a compensation."""
    return Conflict(
        "only a compensation can be done by hand, and it is stuck past the point of no return: resume it",
        status=saga.status,
    )


@dataclass(frozen=True, eq=False)
class PendingCompensation:
    """An exhausted compensation of a choreography: its entry, and the reaction's decision that it executes."""

    entry: SagaStep
    decision: Decision

    @property
    def status(self) -> StepStatus:
        """The status of its operation once it is completed."""
        return StepStatus.BY_HAND if isinstance(self.decision, Compensate) else StepStatus.FAILED

    def complete(self, session: Session, record: SagaRecord, data: dict[str, Any], now: datetime) -> Event | None:
        """Let its service record that it was completed; return the event to publish."""
        match self.decision:
            case Compensate(_, compensation, nothing_done):
                record.block_action(self.entry.step, now)
                event = call_handler(compensation, session, data, data.get("reason"))
                return event or (Event(nothing_done) if nothing_done else None)
            case Execute(action) | Abort(action):
                return record_rejection(action, session, action.message(data), self.entry.error)
        return None


def pending_compensation(entry: SagaStep, decisions: Iterable[Decision]) -> PendingCompensation | None:
    """Return the compensation that an entry stands for, by what the reactions decide now; None if it is not one."""
    for decision in decisions:
        match decision:
            case Compensate(action):
                is_pending = entry.operation == Operation.COMPENSATION
            case Execute(action) | Abort(action):
                is_pending = entry.status == StepStatus.CLOSING
            case None:
                continue
        if is_pending and action.short_name == entry.step:
            return PendingCompensation(entry, decision)
    return None


def select(
    saga: SagaInstance, pending: Sequence[PendingCompensation], report: ManualCompletion
) -> list[PendingCompensation]:
    """Return the compensations of the one step that is reported, the one to record first in front.

    Of one step both the voiding of its action and its compensation may be exhausted: one report covers both.

    Raises Conflict if there is none, or more than one step.
    """
    if not pending:
        raise nothing_to_skip(saga)
    selected = [one for one in pending if report.step in {None, one.entry.step}]
    if len({one.entry.step for one in selected}) != 1:
        steps = " and on ".join(sorted({one.entry.step for one in pending}))
        asked = f", not on {report.step}" if report.step else ": say which step you mean"
        raise Conflict(f"it is stuck on {steps}{asked}", status=saga.status)
    return sorted(selected, key=lambda one: one.entry.operation == Operation.ACTION)


@contextmanager
def recording(saga: SagaInstance) -> Iterator[None]:
    """Raise Conflict if a service rejects the manual completion, or its message cannot be built from the payload."""
    try:
        yield
    except (StepError, ValidationError) as error:
        raise Conflict(f"it cannot be recorded as done: {format_error(error)}", status=saga.status) from error
