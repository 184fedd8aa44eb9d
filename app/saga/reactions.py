"""Execute reactions: a service's response to an event.

A reaction is a small pure function from the saga's events to a decision. This module executes it, and
``first_reactions`` does in the common case: redeliveries republish the recorded event, gateway calls happen outside
transactions, and the barrier resolves every race.
"""

import logging
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from app import runtime
from app.errors import DatabaseUnavailable, StepFailed, StepRejected, format_error
from app.events import StoredEvent, delivery_of, history
from app.ids import is_uuid
from app.messages import Event, Reply
from app.observability.logging import add_to_log_context
from app.saga import barrier, signals, state_machine
from app.saga.attempts import (
    CeleryTask,
    call_outside,
    finish,
    gateway_key,
    invoke,
    leave_to_others,
    record_failure,
    refuse,
    reply_of,
    retried_on_database_fault,
    retry_later,
    say_begun,
)
from app.saga.barrier import Entry
from app.saga.decisions import Abort, Compensate, Execute, Reaction
from app.saga.definition import NO_RETRY, RETRY_UNTIL_STUCK, Command, Operation, RetryPolicy, StepStatus
from app.saga.first_reactions import Delivery, FirstReactions, Found
from app.saga.models import SagaInstance, SagaStep
from app.saga.signals import SignalType
from app.saga.stream import Stream

logger = logging.getLogger(__name__)

CALLED_OFF = "called off"


class ReactionRun:
    """One delivery of an event to one reaction."""

    def __init__(self, stream: Stream, task: CeleryTask, reaction: Reaction, saga_id: str, event_id: str) -> None:
        self.here = runtime.current()
        self.stream = stream
        self.task = task
        self.reaction = reaction
        self.saga_id = saga_id
        self.event_id = event_id
        self.delivery_id = delivery_of(event_id, task.name) if is_uuid(event_id) else None
        self.started_at = self.here.now()

    def run(self) -> Reply:
        """Read the saga's events, decide, and execute the decision; return the reply.

        Raises Celery's Retry if it must be tried again.
        """
        with retried_on_database_fault(self.task):
            found, result = self._react()
            if isinstance(result, Reply):
                return result
            if found is None:
                if result:
                    raise result
                logger.warning("message for no known event, dropped")
                return self._reply(self.task.name, False, "no such event")
            add_to_log_context(order_id=found.order_id)
            self.deadline, self.data, self.log = found.deadline_at, found.data, found.log
            match found.decision:
                case Execute(command) as act:
                    return self._act_failed(command, result) if result else self._act(act, called_off=found.called_off)
                case Compensate() as undo:
                    step = undo.action.short_name
                    failed = partial(self._undoing_failed, step, Operation.COMPENSATION)
                    return failed(result) if result else self._undo(undo)
                case Abort(action, reason):
                    return self._close(action, reason)
                case None:
                    return self._reply(self.task.name, True, None)

    def _react(self) -> tuple[Found | None, Reply | Exception | None]:
        """Try the simple case; return what was read, and the reply or the error if this was one."""
        delivery = Delivery(self.task.request.id, self.saga_id, self.event_id, self.started_at)
        first = FirstReactions(self.stream, self.task.name, self.reaction)
        result: Reply | Exception | None
        try:
            with self.here.database.transaction() as session:
                result = first.make(session, [delivery]).get(delivery.task_id)
        except DatabaseUnavailable:
            raise
        except Exception as error:
            result = error
        if delivery.task_id in first.unknown:
            leave_to_others(self.task, "no reaction that is declared here waits for its event")
        return first.found.get(delivery.task_id), result

    def _act(self, act: Execute, *, called_off: bool) -> Reply:
        command = act.command
        known = self.log.get((command.short_name, Operation.ACTION))
        if known and known.status == StepStatus.CLOSING:
            return self._close(command, known.error or "given up")  # a delivery began voiding it and did not finish
        if known and known.status not in barrier.OPEN:
            return self._repeat(known)
        if called_off:
            return self._reply(command.short_name, False, CALLED_OFF)
        try:
            answer = self._call(command, command.short_name, Operation.ACTION, known)
            with self.here.database.transaction() as session:
                return self._record_first(session, act, answer) or self._record(session, act, answer)
        except DatabaseUnavailable:
            raise
        except Exception as error:
            return self._act_failed(command, error)

    def _record_first(self, session: Session, act: Execute, answer: Any) -> Reply | None:
        """Record an action that is not in the log yet; return None, without any effect, if it is."""
        command = act.command
        for saga, log in barrier.locked(session, [self.saga_id]):
            if barrier.is_free(log, command.short_name, Operation.ACTION):
                if self._is_called_off(session, saga, act):
                    return self._reply(command.short_name, False, CALLED_OFF)
                row = barrier.take(self.saga_id, command.short_name, Operation.ACTION, self.here.now())
                event = invoke(command, session, self.data, answer)
                self._finish(session, saga, row, StepStatus.COMPLETED, event)
                barrier.write(session, [saga], [row])
                return reply_of(row)
        return None

    def _record(self, session: Session, act: Execute, answer: Any) -> Reply:
        command = act.command
        saga, row = self._enter(session, command.short_name, Operation.ACTION)
        if row.status not in barrier.OPEN:
            return self._republish(session, row)
        if self._is_called_off(session, saga, act):
            return self._reply(command.short_name, False, CALLED_OFF)
        event = invoke(command, session, self.data, answer)
        self._finish(session, saga, row, StepStatus.COMPLETED, event)
        return reply_of(row)

    def _is_called_off(self, session: Session, saga: SagaInstance, act: Execute) -> bool:
        """Return whether an action was called off during its gateway call; its compensation voids the key."""
        return act.unless is not None and act.unless in history(session, saga.aggregate_id).types

    def _act_failed(self, command: Command, error: Exception) -> Reply:
        rejected = isinstance(error, StepRejected)
        with self.here.database.transaction() as session:
            saga, row = self._enter(session, command.short_name, Operation.ACTION)
            if row.status not in barrier.OPEN:
                return self._republish(session, row)
            wait = self._note_failure(saga, row, error, command.retry or NO_RETRY, rejected)
            # the failure must not be published before the key is voided: an attempt whose answer was lost, or a
            # concurrent delivery of this message, may have succeeded
            to_void = wait is None and command.void is not None
            if to_void:
                self._begin_closing(row)
            elif wait is None and command.on_rejected:
                self.stream.answer(session, saga, row, refuse(command, session, self.data, row.error))
            elif wait is None:
                # past the point of no return nothing can be compensated: the saga is stuck until it is resumed
                self._stick(saga, row)
        if wait is not None:
            retry_later(self.task, error, wait)
        return self._close(command, format_error(error)) if to_void else reply_of(row)

    def _close(self, action: Command, reason: str) -> Reply:
        with self.here.database.transaction() as session:
            _, row = self._enter(session, action.short_name, Operation.ACTION)
            if row.status in barrier.OPEN:
                self._begin_closing(row, reason)
            elif row.status != StepStatus.CLOSING:
                return self._republish(session, row)
        try:
            key = gateway_key(self.saga_id, action.short_name)
            voided = action.void(action.message(self.data), key) if action.void else None
        except Exception as error:
            return self._undoing_failed(action.short_name, Operation.ACTION, error)
        with self.here.database.transaction() as session:
            saga, row = self._enter(session, action.short_name, Operation.ACTION)
            if row.status != StepStatus.CLOSING:
                return self._republish(session, row)
            row.status = StepStatus.FAILED
            row.finished_at = self.here.now()
            row.task_id = self.task.request.id
            row.delivery_id = self.delivery_id
            if not row.attempts:  # it was blocked before it ran; otherwise its failure was signalled when it happened
                signals.send_step(SignalType.STEP_SKIPPED, saga, row, self.here.now())
            self.stream.answer(session, saga, row, refuse(action, session, self.data, row.error, voided))
        return reply_of(row)

    def _begin_closing(self, row: SagaStep, reason: str | None = None) -> None:
        row.status = StepStatus.CLOSING
        row.error = row.error or reason
        row.earlier_attempts = row.attempts  # voiding has retries of its own

    def _undo(self, undo: Compensate) -> Reply:
        step, compensation = undo.action.short_name, undo.compensation
        known = self.log.get((step, Operation.COMPENSATION))
        if known and known.status not in barrier.OPEN:
            return self._repeat(known)
        try:
            if compensation.call:
                # blocked before the gateway is called, or a concurrent call could be recorded as done after its voiding
                with self.here.database.transaction() as session:
                    barrier.block_action(session, self.saga_id, step, self.started_at, None)
            answer = self._call(compensation, step, Operation.COMPENSATION, known)
            with self.here.database.transaction() as session:
                saga, row = self._enter(session, step, Operation.COMPENSATION)
                action = barrier.block_action(session, self.saga_id, step, self.started_at, None)
                if row.status not in barrier.OPEN:
                    return self._republish(session, row)
                done = action.status == StepStatus.COMPLETED or compensation.call is not None
                if done or compensation.unconditional:
                    event = invoke(compensation, session, self.data, answer)
                else:
                    event = Event(undo.event_if_nothing_done) if undo.event_if_nothing_done else None
                self._finish(session, saga, row, StepStatus.COMPLETED if done else StepStatus.SKIPPED, event)
            return reply_of(row)
        except DatabaseUnavailable:
            raise
        except Exception as error:
            return self._undoing_failed(step, Operation.COMPENSATION, error)

    def _undoing_failed(self, step: str, operation: Operation, error: Exception) -> Reply:
        """Log a failed compensation or voiding, and retry it; when retries are exhausted the saga is stuck."""
        if isinstance(error, DatabaseUnavailable):
            raise error
        with self.here.database.transaction() as session:
            saga, row = self._enter(session, step, operation)
            if row.status not in barrier.OPEN | {StepStatus.CLOSING}:
                return self._republish(session, row)  # a concurrent delivery has completed it meanwhile
            wait = self._note_failure(saga, row, error, RETRY_UNTIL_STUCK, False)
            if operation is Operation.ACTION:
                row.status = StepStatus.CLOSING  # it stays blocked, whatever happens to the voiding
            if wait is None:
                self._stick(saga, row)
        if wait is not None:
            retry_later(self.task, error, wait)
        raise StepFailed(reply_of(row)) from error

    def _stick(self, saga: SagaInstance, row: SagaStep) -> None:
        state_machine.mark_stuck(saga, self.here.now(), f"{self.task.name}: {row.error}", row.step)

    def _call(self, command: Command, step: str, operation: Operation, known: Entry | None) -> Any:
        attempt = known.attempts + 1 if known else 1
        say_begun(self.saga_id, step, operation, attempt)
        return call_outside(command, operation, step, self.saga_id, self.data, attempt, self.deadline)

    def _enter(self, session: Session, step: str, operation: Operation) -> tuple[SagaInstance, SagaStep]:
        # the saga's row decides nothing here, but it may be written at the end of the transaction, and locks are taken
        # in the same order everywhere (saga, steps, order, stock) to avoid deadlocks
        saga = session.get_one(SagaInstance, self.saga_id, with_for_update=True)
        return saga, barrier.enter(session, self.saga_id, step, operation, self.here.now())

    def _finish(
        self, session: Session, saga: SagaInstance, row: SagaStep, status: StepStatus, event: Event | None
    ) -> None:
        row.delivery_id = self.delivery_id
        finish(saga, row, status, self.task.request.id, self.started_at, self.here.now())
        if event:
            self.stream.answer(session, saga, row, event)

    def _note_failure(
        self, saga: SagaInstance, row: SagaStep, error: Exception, policy: RetryPolicy, rejected: bool
    ) -> float | None:
        row.delivery_id = self.delivery_id
        now = self.here.now()
        return record_failure(saga, row, error, policy, rejected, self.task.request.id, self.started_at, now)

    def _republish(self, session: Session, row: SagaStep | Entry) -> Reply:
        """Answer a redelivery, and republish the recorded event, which may not have arrived."""
        if row.event_id:
            self.stream.republish(session, self.saga_id, session.get_one(StoredEvent, row.event_id))
        return reply_of(row)

    def _repeat(self, row: Entry) -> Reply:
        if barrier.delivery_of(row) not in {None, self.delivery_id}:
            # done by another event's delivery, whose redelivery republishes it: doing so here too would double all that
            # follows
            return reply_of(row)
        with self.here.database.transaction() as session:
            return self._republish(session, row)

    def _reply(self, step: str, success: bool, error: str | None) -> Reply:
        return Reply(success=success, saga_id=self.saga_id, step=step, error=error)
