"""Execute operations: the one path for both patterns, for one delivery or many, with and without a gateway.

A transaction locks the sagas, reads their logs, determines by ``decisions`` what each delivery means, calls the
handlers, and writes log, events and new states; one commit makes all of it durable. A gateway is called outside any
transaction, between two of these: the first determines that it must be called, the second decides again and records the
result. The process may die anywhere between, so the call carries an idempotency key.

A delivery that failed is decided once more, in a transaction that records the failure.
"""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from durable_sagas import saga_log
from durable_sagas.database import Effects, after_commit, watched_effects
from durable_sagas.decisions import (
    AlreadyFailed,
    Consequence,
    Reject,
    Repeat,
    Run,
    Skip,
    Void,
    decide_failure,
)
from durable_sagas.definition import (
    NO_RETRY,
    RETRY_UNTIL_STUCK,
    Command,
    Operation,
    RetryPolicy,
    StepStatus,
    takes_reason,
)
from durable_sagas.deliveries import (
    Attempt,
    CallGateway,
    Delivery,
    Dismissal,
    Failed,
    Finished,
    GatewayResult,
    LeaveToOthers,
    PatternRules,
    Result,
    RetryIn,
)
from durable_sagas.engine import CeleryTask, Engine
from durable_sagas.errors import DatabaseUnavailable, StepError, StepFailed, StepRejected, format_error
from durable_sagas.log_context import add_to_log_context, log_context
from durable_sagas.messages import Event, Reply
from durable_sagas.messaging.batching import BatchedMessage
from durable_sagas.messaging.publisher import sent_at_of
from durable_sagas.models import SagaInstance, SagaStep
from durable_sagas.queue_progress import Call
from durable_sagas.saga_log import SagaRecord
from durable_sagas.signals import SignalType

logger = logging.getLogger(__name__)

UNLIMITED = sys.maxsize
"""Passed to each retry: the log counts the attempts, not Celery, even if the application sets a limit for all tasks."""

HANDOVER_SECONDS, MAX_HANDOVERS = 1.0, 30
"""Delay between retries, and their maximum number, of a message that only another version of the code can handle."""

MAX_WAIT_FOR_DATABASE_SECONDS = 10.0
"""Maximum delay before a message is delivered again after a database fault."""


class Execution:
    """Executes the deliveries of one task."""

    def __init__(self, engine: Engine, pattern: PatternRules) -> None:
        self.engine = engine
        self.pattern = pattern

    @property
    def queue(self) -> str:
        """The queue of the task."""
        return self.engine.publisher.queue_of(self.pattern.task_name)

    def run(self, task: CeleryTask, delivery: Delivery) -> Reply:
        """Return the reply of a task: that of its batch, if it was executed in one, else execute it now.

        Raises StepFailed once no retry is left, and Celery's Retry before that.
        """
        result = self.engine.batches.results.pop(delivery.task_id, None)
        with retried_on_database_fault(task):
            return conclude(task, result or self.execute(delivery))

    def run_batch(self, messages: Sequence[BatchedMessage]) -> Mapping[str | None, Result]:
        """Execute messages of the task in one transaction; return the results of those that are finished by it.

        If a saga has several messages only the first is considered. Raises whatever a command raises, except a
        StepRejected of a command that has written nothing; nothing has then been done. See ``Batches.register``.
        """
        now = self.engine.database.now()
        deliveries = [
            Delivery(one.task_id, one.arguments["saga_id"], now, one.arguments.get("event_id"), one.sent_at)
            for one in messages
            if one.arguments.keys() in ({"saga_id"}, {"saga_id", "event_id"})  # the task itself rejects all others
        ]
        first = {delivery.saga_id: delivery for delivery in reversed(deliveries)}
        with self.engine.database.transaction() as session:
            records = saga_log.lock_all(session, first)
            results = self._process(session, [(first[record.saga.id], record) for record in records], [])
        return {one.task_id: result for one, result in results if isinstance(result, Finished | Failed)}

    def execute(self, delivery: Delivery) -> Result:
        """Execute one delivery, with the call of a gateway where it needs one."""
        result = self._look(delivery) if self.pattern.calls_gateway else None
        result = result or self._transact(delivery)
        while isinstance(result, CallGateway):
            delivery = self._call(delivery, result.attempt)
            result = self._transact(delivery)
        return result

    def _look(self, delivery: Delivery) -> Result | None:
        """Decide by an unlocked look at the saga; return None if something is to be written under its lock."""
        with self.engine.database.reading() as session:
            record = saga_log.read(session, delivery.saga_id)
            if record is None:
                return self._no_such_saga(delivery)
            [decided] = self._decide(session, [(delivery, record)])
            if isinstance(decided, Attempt) and isinstance(decided.verdict, Run):
                return CallGateway(decided)
            if isinstance(decided, Attempt) and isinstance(decided.verdict, Skip | Reject | Void):
                return None
            self.engine.served.note(self.queue, filter(None, [self._position(delivery, record)]))
            return self._record(session, decided, delivery.started_at)

    def _transact(self, delivery: Delivery) -> Result:
        """Execute a delivery in one transaction; if that fails, record the failure in another."""
        decided: list[Attempt | Dismissal] = []
        try:
            return self._process_one(delivery, decided)
        except DatabaseUnavailable:
            raise
        except Exception as error:
            if delivery.error:
                raise
            log_unexpected(error, self.pattern.task_name)
            # of the operation that was attempted, whatever a reaction would decide now
            decision = next((one.decision for one in decided if isinstance(one, Attempt)), delivery.decision)
            return self._process_one(replace(delivery, error=error, decision=decision), decided)

    def _process_one(self, delivery: Delivery, decided: list[Attempt | Dismissal]) -> Result:
        with self.engine.database.transaction() as session:
            records = saga_log.lock_all(session, [delivery.saga_id])
            for _, result in self._process(session, [(delivery, record) for record in records], decided):
                return result
        return self._no_such_saga(delivery)

    def _process(
        self,
        session: Session,
        found: Sequence[tuple[Delivery, SagaRecord]],
        decided: list[Attempt | Dismissal],
    ) -> list[tuple[Delivery, Result]]:
        """Decide, execute and record; fill ``decided`` with what each delivery means."""
        decided[:] = self._decide(session, found)
        positions = [self._position(delivery, record) for delivery, record in found]
        attempts = [one for one in decided if isinstance(one, Attempt)]
        to_run = []
        for attempt in attempts:
            if isinstance(attempt.verdict, Run | Skip) and attempt.delivery.error is None:
                attempt.must_call = self._must_call(attempt)
                if not attempt.must_call:
                    to_run.append(attempt)
        self._lock_shared_rows(session, to_run)
        if to_run:
            with watched_effects(session) as effects:  # once for all: a listener costs as much as a statement
                for attempt in to_run:
                    self._handle(session, attempt, effects, alone=len(found) == 1)
        now = self.engine.database.now()
        results = [(one.delivery, self._record(session, one, now)) for one in decided]
        if to_publish := [attempt for attempt in attempts if attempt.event]:
            self.pattern.publish(session, to_publish, now)
        saga_log.write(session, [record for _, record in found])
        after_commit(session, partial(self.engine.served.note, self.queue, [one for one in positions if one]))
        return results

    def _position(self, delivery: Delivery, record: SagaRecord) -> datetime | None:
        """Return the position of a message in its queue: when it was sent, or is retried; None if that is not known."""
        saga = record.saga
        if delivery.sent_at:
            return min(delivery.sent_at, delivery.started_at)  # anybody can send a message, with any header
        # by the row if it was sent once: else an older message of the saga may be in the queue
        return saga.ready_at if saga.queue == self.queue and not saga.redrives else None

    def _decide(self, session: Session, found: Sequence[tuple[Delivery, SagaRecord]]) -> list[Attempt | Dismissal]:
        if len(found) == 1:
            add_to_log_context(order_id=found[0][1].saga.aggregate_id)
        return self.pattern.decide(session, found)

    def _lock_shared_rows(self, session: Session, attempts: Sequence[Attempt]) -> None:
        if len(attempts) > 1:
            # always in the same order of commands, and within each command, to avoid deadlocks
            for command in sorted({attempt.command for attempt in attempts}, key=attrgetter("name")):
                if command.lock_shared_rows:
                    messages = [attempt.message for attempt in attempts if attempt.command is command]
                    command.lock_shared_rows(session, messages)

    def _handle(self, session: Session, attempt: Attempt, effects: Effects, *, alone: bool) -> None:
        """Call a command's handler; keep its event, or the rejection of an action that has written nothing."""
        delivery, saga = attempt.delivery, attempt.saga
        context: AbstractContextManager[None] = nullcontext()
        if not alone:
            context = log_context(task_id=delivery.task_id, saga_id=saga.id, order_id=saga.aggregate_id)
        with context:
            if delivery.called is None:
                log_attempt_started(attempt)
            if isinstance(attempt.verdict, Skip) and not attempt.command.unconditional:
                attempt.event = attempt.verdict.event
                return
            effects.mark()
            try:
                attempt.event = invoke(attempt, session)
            except StepRejected as rejection:
                if attempt.operation is not Operation.ACTION or effects:
                    raise
                attempt.delivery = replace(delivery, error=rejection)

    def _record(self, session: Session, attempt: Attempt | Dismissal, now: datetime) -> Result:
        """Write down what came of a delivery; return what its task does."""
        if isinstance(attempt, Dismissal):
            return attempt.result
        match attempt.verdict:
            case Repeat(entry, resend):
                if resend:
                    self.pattern.republish(session, attempt, entry)
                return Finished(reply_of(entry), send_next=resend or attempt.choreographed)
            case AlreadyFailed(entry):
                return Failed(reply_of(entry))
            case Reject(reason):
                return self._record_failure(session, attempt, StepRejected(reason), now)
        if attempt.delivery.error:
            return self._record_failure(session, attempt, attempt.delivery.error, now)
        if isinstance(attempt.verdict, Void):
            return self._record_void(session, attempt, attempt.verdict.reason, now)
        return self._record_run(attempt, now)

    def _record_run(self, attempt: Attempt, now: datetime) -> Result:
        if attempt.operation is Operation.COMPENSATION:
            # before the gateway is called, or a concurrent call of the action could be recorded after its voiding
            attempt.record.block_action(attempt.step, attempt.delivery.started_at)
        if attempt.must_call:
            return CallGateway(attempt)
        entry = self._enter(attempt, now)
        status = StepStatus.SKIPPED if isinstance(attempt.verdict, Skip) else StepStatus.COMPLETED
        record_end(self.engine, attempt.saga, entry, status, attempt.delivery.task_id, attempt.delivery.started_at, now)
        if attempt.event:
            entry.result = dict(attempt.event.payload)  # for the reply
        self.pattern.advance(attempt, now)
        return Finished(reply_of(entry))

    def _record_failure(self, session: Session, attempt: Attempt, error: Exception, now: datetime) -> Result:
        """Log a failed attempt, and what follows from it if it was the last."""
        entry = self._enter(attempt, now)
        voiding = isinstance(attempt.verdict, Void)
        is_action = attempt.operation is Operation.ACTION and not voiding
        policy = RETRY_UNTIL_STUCK if voiding else attempt.policy
        if is_action and isinstance(error, StepRejected):
            policy = NO_RETRY
        wait = self._log_failure(attempt, entry, error, policy, now)
        if voiding:
            entry.status = StepStatus.CLOSING  # it stays blocked, whatever happens to the voiding
        if wait is not None:
            if not attempt.choreographed:
                is_first = entry.attempts - entry.earlier_attempts == 1
                deadline = self.pattern.deadline(attempt, attempt.delivery.started_at) if is_first else None
                self.engine.state_machine.wait_for_retry(attempt.saga, attempt.command.name, now, wait, deadline)
            return RetryIn(wait, error)
        operation = attempt.operation if is_action else Operation.COMPENSATION
        consequence = decide_failure(
            operation, attempt.command, choreographed=attempt.choreographed, irreversible=attempt.irreversible
        )
        match consequence:
            case Consequence.VOID:
                attempt.verdict = Void(entry.error or "failed")
                return self._record_void(session, attempt, attempt.verdict.reason, now)
            case Consequence.REJECTION if attempt.command.on_rejected:
                attempt.event = record_rejection(attempt.command, session, attempt.message, entry.error)
                entry.result = dict(attempt.event.payload)
            case Consequence.STUCK:
                where = self.pattern.task_name if attempt.choreographed else attempt.command.name
                step = attempt.step if attempt.choreographed else None
                self.engine.state_machine.mark_stuck(attempt.saga, now, f"{where}: {entry.error}", step)
        # a failed action fails the task only where an error callback waits for that
        fails = not (attempt.choreographed and is_action)
        return Failed(reply_of(entry), error) if fails else Finished(reply_of(entry))

    def _log_failure(
        self, attempt: Attempt, entry: SagaStep, error: Exception, policy: RetryPolicy, now: datetime
    ) -> float | None:
        """Log a failed attempt; return the seconds until the next one, or None if there is none."""
        delivery = attempt.delivery
        entry.attempts += 1
        entry.error = format_error(error)
        entry.task_id = delivery.task_id
        entry.started_at = delivery.started_at
        failure: dict[str, Any] = {
            "attempt": entry.attempts,
            "started_at": delivery.started_at.isoformat(),
            "finished_at": now.isoformat(),
            "error": entry.error,
        }
        tried = entry.attempts - entry.earlier_attempts
        wait = None if policy.exhausted(tried) else policy.wait(tried)
        if wait is None:
            entry.status, signal = StepStatus.FAILED, SignalType.STEP_FAILED
            entry.finished_at = now
        else:
            entry.status, signal = StepStatus.RETRYING, SignalType.STEP_RETRIED
            failure["retry_at"] = (now + timedelta(seconds=wait)).isoformat()
            failure["most"] = entry.earlier_attempts + policy.attempts
        entry.failures = [*entry.failures, failure]
        self.engine.signals.send_step(signal, attempt.saga, entry, now)
        return wait

    def _record_void(self, session: Session, attempt: Attempt, reason: str, now: datetime) -> Result:
        """Close an action, then, once its gateway's key is voided, record and publish its failure."""
        entry = self._enter(attempt, now)
        if entry.status != StepStatus.CLOSING:
            entry.status = StepStatus.CLOSING
            entry.error = entry.error or reason
            entry.earlier_attempts = entry.attempts  # voiding has retries of its own
        if self._must_call(attempt):
            return CallGateway(attempt)
        entry.status = StepStatus.FAILED
        entry.finished_at = now
        entry.task_id = attempt.delivery.task_id
        if not entry.attempts:  # it was blocked before it ran; otherwise its failure was signalled when it happened
            self.engine.signals.send_step(SignalType.STEP_SKIPPED, attempt.saga, entry, now)
        voided = attempt.delivery.called.answer if attempt.delivery.called else None
        attempt.event = record_rejection(attempt.command, session, attempt.message, entry.error, voided)
        entry.result = dict(attempt.event.payload)
        return Finished(reply_of(entry))

    def _enter(self, attempt: Attempt, now: datetime) -> SagaStep:
        attempt.entry = attempt.record.enter(attempt.step, attempt.operation, now)
        if attempt.delivery_id:
            attempt.entry.delivery_id = attempt.delivery_id
        return attempt.entry

    def _call(self, delivery: Delivery, attempt: Attempt) -> Delivery:
        """Call the gateway outside any transaction; return the delivery with its answer, or its error."""
        function = attempt.gateway
        if not isinstance(attempt.verdict, Void):
            log_attempt_started(attempt)
        started_at = self.engine.database.now()
        position = self._position(delivery, attempt.record)
        call = Call(
            attempt.saga.id,
            self.queue,
            position,
            self.pattern.deadline(attempt, started_at),
            attempt.saga.updated_at,
        )
        self.engine.served.note(self.queue, [])
        try:
            with self.engine.served.under_way(call), self._interceptor(attempt) or nullcontext():
                answer = function(attempt.message, attempt.key) if function else None
        except DatabaseUnavailable:
            raise
        except Exception as error:
            log_unexpected(error, self.pattern.task_name)
            return replace(delivery, called=None, decision=attempt.decision, error=error)
        return replace(delivery, called=GatewayResult(function, answer), decision=attempt.decision, error=None)

    def _must_call(self, attempt: Attempt) -> bool:
        """Return whether a gateway, or an interceptor, has to be called before the attempt can be recorded."""
        called, gateway = attempt.delivery.called, attempt.gateway
        if called and called.function == gateway:
            return False
        return gateway is not None or self._interceptor(attempt) is not None

    def _interceptor(self, attempt: Attempt) -> AbstractContextManager[None] | None:
        """Return what surrounds the work of an attempt, or None; the voiding of an action is not intercepted."""
        if isinstance(attempt.verdict, Void):
            return None
        return next((context for one in self.engine.interceptors if (context := one(attempt))), None)

    def _no_such_saga(self, delivery: Delivery) -> Result:
        logger.warning("message for no known saga, dropped", extra={"step": self.pattern.task_name})
        reply = Reply(success=False, saga_id=delivery.saga_id, step=self.pattern.task_name, error="no such saga")
        return Finished(reply, send_next=False)


def delivery_to(task: CeleryTask, engine: Engine, saga_id: str, event_id: str | None = None) -> Delivery:
    """Return the delivery of the message that a task is executing."""
    return Delivery(task.request.id, saga_id, engine.database.now(), event_id, sent_at_of(vars(task.request)))


def reply_of(entry: SagaStep) -> Reply:
    """Return the reply recorded for an operation."""
    nothing_to_compensate = entry.status == StepStatus.SKIPPED and entry.operation == Operation.COMPENSATION
    success = entry.status in {StepStatus.COMPLETED, StepStatus.BY_HAND} or nothing_to_compensate
    return Reply(
        success=success,
        saga_id=entry.saga_id,
        step=entry.step,
        result=entry.result,
        error=None if success else entry.error,
    )


def conclude(task: CeleryTask, result: Result) -> Reply:
    """Return, in the task, the reply of a result, or raise its error."""
    match result:
        case Finished(reply, send_next):
            if not send_next:
                task.request.chain = None  # this chain ends here, and not as a failure
                logger.info("step not run", extra={"step": reply.step, "reason": reply.error})
            return reply
        case Failed(reply, cause):
            raise StepFailed(reply) from cause
        case RetryIn(seconds, cause):
            raise task.retry(countdown=seconds, exc=cause, max_retries=UNLIMITED)
        case LeaveToOthers(reply):
            leave_to_others(task, str(reply.error))
            return conclude(task, Finished(reply, send_next=False))
        case CallGateway():
            raise AssertionError("a gateway is called before the task ends")


@contextmanager
def retried_on_database_fault(task: CeleryTask) -> Iterator[None]:
    """Retry the message after a database fault. This is not counted as an attempt, because it could not be logged."""
    try:
        yield
    except DatabaseUnavailable as error:
        wait = min(MAX_WAIT_FOR_DATABASE_SECONDS, 0.2 * 2**task.request.retries)
        logger.warning("database fault, trying again", extra={"reason": error})
        raise task.retry(countdown=wait, exc=error, max_retries=50) from error


def leave_to_others(task: CeleryTask, reason: str) -> None:
    """Retry a message soon, so that a worker of another version of the code may receive it.

    Return after ``MAX_HANDOVERS`` retries. From then on only the sweep sends it, as long as its saga waits for it.
    """
    if task.request.retries < MAX_HANDOVERS:
        logger.info("message left to a process of another version", extra={"reason": reason})
        raise task.retry(countdown=HANDOVER_SECONDS, max_retries=UNLIMITED)
    logger.warning("message dropped: no process of another version has taken it", extra={"reason": reason})


def log_attempt_started(attempt: Attempt) -> None:
    """Log the start of an attempt, and add its step, operation and number to the innermost log context."""
    add_to_log_context(step=attempt.step, operation=attempt.operation, attempt=attempt.number)
    doing = "Compensating" if attempt.operation is Operation.COMPENSATION else "Executing"
    logger.info(f"{doing} step {attempt.step} for saga {attempt.saga.id}")


def log_unexpected(error: Exception, task_name: str) -> None:
    """Log the traceback of an exception that a service did not raise deliberately: it may be a bug."""
    if isinstance(error, ValidationError):  # whose text repeats the invalid input
        error = ValueError(format_error(error)).with_traceback(error.__traceback__)
    if not isinstance(error, StepError):
        logger.warning(f"{task_name} raised {type(error).__name__}", exc_info=error)


def invoke(attempt: Attempt, session: Session) -> Event | None:
    """Call a command's handler in the transaction, with the gateway's answer if the command calls a gateway."""
    command, called = attempt.command, attempt.delivery.called
    arguments = [called.answer if called else None] if command.call else []
    options = {"reason": attempt.reason} if takes_reason(command.handler) else {}
    return command.handler(session, attempt.message, *arguments, **options)


def record_rejection(command: Command, session: Session, message: Any, reason: str | None, voided: Any = None) -> Event:
    """Let the service record that an action failed for good; return the event to publish.

    ``voided`` is the gateway's result of voiding the key, if it was voided.
    """
    assert command.on_rejected is not None
    arguments = [voided] if command.void else []
    return command.on_rejected(session, message, reason or "failed", *arguments)


def record_end(
    engine: Engine,
    saga: SagaInstance,
    entry: SagaStep,
    status: StepStatus,
    task_id: str | None,
    started_at: datetime,
    now: datetime,
) -> None:
    """Log the attempt that completed or skipped an operation."""
    entry.status = status
    entry.attempts += 1
    entry.error = None
    entry.task_id = task_id
    entry.started_at = started_at
    entry.finished_at = now
    kind = SignalType.STEP_COMPLETED if status is StepStatus.COMPLETED else SignalType.STEP_SKIPPED
    engine.signals.send_step(kind, saga, entry, now)
