"""What every attempt at an operation has in common, in both patterns: its call, its log entry, its retry, its reply."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, NoReturn

from celery import Task
from sqlalchemy.orm import Session

from app import fault_injection
from app.database import effects, pending_writes
from app.errors import DatabaseUnavailable, StepRejected, format_error
from app.messages import Event, Reply
from app.observability.logging import add_to_log_context
from app.saga import signals
from app.saga.barrier import Entry
from app.saga.definition import Command, Operation, RetryPolicy, StepStatus
from app.saga.models import SagaInstance, SagaStep
from app.saga.signals import SignalType

logger = logging.getLogger(__name__)

CeleryTask = Task[Any, Any]

HANDOVER_SECONDS, MAX_HANDOVERS = 1.0, 30
"""Delay and maximum number of the retries of a message that only another version of the code can handle."""

MAX_WAIT_FOR_DATABASE_SECONDS = 10.0
"""How long a message waits for its next delivery, at most, when the database did not answer."""


@contextmanager
def retried_on_database_fault(task: CeleryTask) -> Iterator[None]:
    """Retry the message after a database fault. It does not count as an attempt: nothing could be logged."""
    try:
        yield
    except DatabaseUnavailable as error:
        wait = min(MAX_WAIT_FOR_DATABASE_SECONDS, 0.2 * 2**task.request.retries)
        logger.warning("database fault, trying again", extra={"reason": error})
        raise task.retry(countdown=wait, exc=error, max_retries=50) from error


def call_outside(
    command: Command,
    operation: Operation,
    step: str,
    saga_id: str,
    payload: dict[str, Any],
    attempt: int,
    deadline: datetime | None,
) -> Any:
    """Strike what the payload simulates, then call the command's gateway if it has one; returns its answer.

    Action and compensation use the same idempotency key, so that the one can void what the other may have done.
    """
    fault = fault_injection.fault_for(command, payload)
    fault_injection.inject_before(fault, operation, attempt, deadline)
    if command.call is None:
        return None
    answer = command.call(command.message(payload), gateway_key(saga_id, step))
    fault_injection.inject_after(fault, operation)
    return answer


def say_begun(saga_id: str, step: str, operation: Operation, attempt: int) -> None:
    """Log that an attempt begins; every line of the innermost log context from now on says which attempt it is."""
    add_to_log_context(step=step, operation=operation, attempt=attempt)
    doing = "Undoing" if operation is Operation.COMPENSATION else "Executing"
    logger.info(f"{doing} step {step} for saga {saga_id}")


def gateway_key(saga_id: str, step: str) -> str:
    """Return the idempotency key under which a gateway knows a step of a saga."""
    return f"{saga_id}:{step}"


def invoke(command: Command, session: Session, payload: dict[str, Any], answer: Any) -> Event | None:
    """Call a command's business function in the transaction; it is given the gateway's answer if it has a gateway."""
    return _handle(command, session, command.message(payload), answer)


def _handle(command: Command, session: Session, message: Any, answer: Any) -> Event | None:
    return command.handler(session, message, answer) if command.call else command.handler(session, message)


def invoke_cleanly(
    session: Session, command: Command, operation: Operation, message: Any, answer: Any = None
) -> Event | StepRejected | None:
    """Call a command's business function; returns its event, or the refusal of an action that has written nothing.

    After such a refusal the transaction may go on. Raises everything else: what was written may not be committed.
    """
    session.flush()
    before = effects(session)
    try:
        return _handle(command, session, message, answer)
    except StepRejected as refusal:
        if operation is not Operation.ACTION or pending_writes(session) or effects(session) != before:
            raise
        return refusal


def refuse(
    command: Command, session: Session, payload: dict[str, Any], reason: str | None, voided: Any = None
) -> Event:
    """Have the service record that a command failed for good; returns the event that says so.

    ``voided`` is what the gateway answered when what it may have done was voided.
    """
    assert command.refused is not None
    message = command.message(payload)
    if command.void:
        return command.refused(session, message, reason or "failed", voided)
    return command.refused(session, message, reason or "failed")


def record_manual_completion(command: Command, session: Session, payload: dict[str, Any]) -> Event | None:
    """Have the service record that a person did what the command could not, if it has anything to record."""
    return command.by_hand(session, command.message(payload)) if command.by_hand else None


def record_failure(
    saga: SagaInstance,
    row: SagaStep,
    error: Exception,
    policy: RetryPolicy,
    rejected: bool,
    task_id: str | None,
    started_at: datetime,
    now: datetime,
) -> float | None:
    """Log a failed attempt; returns the seconds to wait before the next, or None if there is to be none."""
    row.attempts += 1
    failure: dict[str, Any] = {
        "attempt": row.attempts,
        "started_at": started_at.isoformat(),
        "finished_at": now.isoformat(),
        "error": format_error(error),
    }
    row.error = format_error(error)
    row.task_id = task_id
    row.started_at = started_at
    tried = row.attempts - row.earlier_attempts
    wait = None if rejected or policy.exhausted(tried) else policy.wait(tried)
    if wait is None:
        row.status = StepStatus.FAILED
        row.finished_at = now
    else:
        row.status = StepStatus.RETRYING
        failure["retry_at"] = (now + timedelta(seconds=wait)).isoformat()
        failure["most"] = row.earlier_attempts + policy.attempts
    row.failures = [*row.failures, failure]
    signals.send_step(SignalType.STEP_FAILED if wait is None else SignalType.STEP_RETRIED, saga, row, now)
    return wait


def finish(
    saga: SagaInstance,
    row: SagaStep,
    status: StepStatus,
    task_id: str | None,
    started_at: datetime,
    now: datetime,
) -> None:
    """Log the attempt that ended an operation."""
    row.status = status
    row.attempts += 1
    row.error = None
    row.task_id = task_id
    row.started_at = started_at
    row.finished_at = now
    signals.send_step(
        SignalType.STEP_COMPLETED if status is StepStatus.COMPLETED else SignalType.STEP_SKIPPED, saga, row, now
    )


def retry_later(task: CeleryTask, error: Exception, wait: float) -> NoReturn:
    """End the delivery by asking Celery for another one after ``wait`` seconds; the log keeps the count, not Celery."""
    raise task.retry(countdown=wait, exc=error)


def leave_to_others(task: CeleryTask, reason: str) -> None:
    """Retry a message soon, so that a worker of another version of the code may receive it.

    Returns once it has been retried ``MAX_HANDOVERS`` times: the sweep sends it again as long as its saga waits for it.
    """
    if task.request.retries < MAX_HANDOVERS:
        logger.info("message left to a process of another version", extra={"reason": reason})
        raise task.retry(countdown=HANDOVER_SECONDS)
    logger.warning("message dropped: no process of another version has taken it", extra={"reason": reason})


def reply_of(row: SagaStep | Entry) -> Reply:
    """Return the reply that the log holds for an operation."""
    nothing_to_undo = row.status == StepStatus.SKIPPED and row.operation == Operation.COMPENSATION
    success = row.status in {StepStatus.COMPLETED, StepStatus.BY_HAND} or nothing_to_undo
    return Reply(
        success=success,
        saga_id=row.saga_id,
        step=row.step,
        result=row.result,
        error=None if success else row.error,
    )
