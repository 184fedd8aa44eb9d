"""Shared parts of executing an operation, in both patterns: gateway call, log entry, retry, reply."""

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
"""Delay between retries, and their maximum number, of a message that only another version of the code can handle."""

MAX_WAIT_FOR_DATABASE_SECONDS = 10.0
"""Maximum delay before a message is delivered again after a database fault."""


@contextmanager
def retried_on_database_fault(task: CeleryTask) -> Iterator[None]:
    """Retry the message after a database fault. This is not counted as an attempt, because it could not be logged."""
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
    """Inject the fault requested by the payload, call the command's gateway if it has one, and return its result.

    Action and compensation use the same idempotency key, so that the compensation can void what the action may have
    done.
    """
    fault = fault_injection.fault_for(command, payload)
    fault_injection.inject_before(fault, operation, attempt, deadline)
    if command.call is None:
        return None
    answer = command.call(command.message(payload), gateway_key(saga_id, step))
    fault_injection.inject_after(fault, operation)
    return answer


def say_begun(saga_id: str, step: str, operation: Operation, attempt: int) -> None:
    """Log the start of an attempt, and add its step, operation and number to the innermost log context."""
    add_to_log_context(step=step, operation=operation, attempt=attempt)
    doing = "Undoing" if operation is Operation.COMPENSATION else "Executing"
    logger.info(f"{doing} step {step} for saga {saga_id}")


def gateway_key(saga_id: str, step: str) -> str:
    """Return the idempotency key that a gateway gets for a step of a saga."""
    return f"{saga_id}:{step}"


def invoke(command: Command, session: Session, payload: dict[str, Any], answer: Any) -> Event | None:
    """Call a command's handler in the transaction, with the gateway's result if the command calls a gateway."""
    return _handle(command, session, command.message(payload), answer)


def _handle(command: Command, session: Session, message: Any, answer: Any) -> Event | None:
    return command.handler(session, message, answer) if command.call else command.handler(session, message)


def invoke_cleanly(
    session: Session, command: Command, operation: Operation, message: Any, answer: Any = None
) -> Event | StepRejected | None:
    """Call a command's handler; return its event, or the rejection of an action that has written nothing.

    After such a rejection the transaction may continue. Any other exception propagates, and the transaction must not be
    committed.
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
    """Let the service record that a command failed for good; return the event to publish.

    ``voided`` is the gateway's result of voiding the key, if it was voided.
    """
    assert command.on_rejected is not None
    message = command.message(payload)
    if command.void:
        return command.on_rejected(session, message, reason or "failed", voided)
    return command.on_rejected(session, message, reason or "failed")


def record_manual_completion(command: Command, session: Session, payload: dict[str, Any]) -> Event | None:
    """Let the service record a compensation that was completed manually, if it has a handler for that."""
    return command.on_manual_completion(session, command.message(payload)) if command.on_manual_completion else None


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
    """Log a failed attempt; return the seconds until the next one, or None if there is none."""
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
    """Log the attempt that completed or skipped an operation."""
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
    """Raise Celery's Retry for another delivery after ``wait`` seconds. The log counts the attempts, not Celery."""
    raise task.retry(countdown=wait, exc=error)


def leave_to_others(task: CeleryTask, reason: str) -> None:
    """Retry a message soon, so that a worker of another version of the code may receive it.

    Return after ``MAX_HANDOVERS`` retries. From then on only the sweep sends it, as long as its saga waits for it.
    """
    if task.request.retries < MAX_HANDOVERS:
        logger.info("message left to a process of another version", extra={"reason": reason})
        raise task.retry(countdown=HANDOVER_SECONDS)
    logger.warning("message dropped: no process of another version has taken it", extra={"reason": reason})


def reply_of(row: SagaStep | Entry) -> Reply:
    """Return the reply recorded for an operation."""
    nothing_to_undo = row.status == StepStatus.SKIPPED and row.operation == Operation.COMPENSATION
    success = row.status in {StepStatus.COMPLETED, StepStatus.BY_HAND} or nothing_to_undo
    return Reply(
        success=success,
        saga_id=row.saga_id,
        step=row.step,
        result=row.result,
        error=None if success else row.error,
    )
