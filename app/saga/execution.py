"""Execute one delivery of a step's message, including all cases that ``first_attempts`` does not handle.

A local step is one transaction: lock the saga, check its position and the barrier, call the handler, write the log, the
event and the new state. A step that calls a gateway reads first, calls outside any transaction, and then records the
result in such a transaction. The process may die anywhere between, so the call carries an idempotency key.
"""

import logging
from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from app import runtime
from app.errors import DatabaseUnavailable, StepFailed, StepRejected
from app.events import emit
from app.ids import is_uuid
from app.messages import Reply
from app.observability.logging import add_to_log_context
from app.saga import barrier, state_machine
from app.saga.attempts import (
    CeleryTask,
    call_outside,
    finish,
    invoke,
    leave_to_others,
    record_failure,
    reply_of,
    retried_on_database_fault,
    retry_later,
    say_begun,
)
from app.saga.definition import Command, Operation, Progress, Saga, StepStatus, UnknownStep
from app.saga.first_attempts import Delivery, FirstAttempts, give_up
from app.saga.models import SagaInstance
from app.saga.turn import Fence, Turn

logger = logging.getLogger(__name__)


class Settled(Exception):
    """Raised to end a delivery with a reply, without executing anything (more)."""

    def __init__(self, reply: Reply, *, goes_on: bool) -> None:
        self.reply = reply
        self.goes_on = goes_on
        """Whether the rest of the chain is still sent."""


class StepRun:
    """One delivery of a message that requests a command for a saga."""

    def __init__(self, task: CeleryTask, sagas: Callable[[str], Saga | None], command: Command, saga_id: str) -> None:
        self.here = runtime.current()
        self.task = task
        self.sagas = sagas
        self.command = command
        self.saga_id = saga_id
        self.started_at = self.here.now()
        self._begun = False

    def run(self) -> Reply:
        """Run the step unless the log shows that there is nothing to run; return its reply.

        Raises StepFailed once no retry is left, and Celery's Retry before that.
        """
        try:
            with retried_on_database_fault(self.task):
                return self._run()
        except Settled as settled:
            if not settled.goes_on:
                # the step must not run: this chain ends here, and not as a failure
                self.task.request.chain = None
                reason = {"step": settled.reply.step, "reason": settled.reply.error}
                logger.info("step not run", extra=reason)
            return settled.reply

    def _run(self) -> Reply:
        try:
            answer = None
            outcome = None if self.command.call else self._first_attempt(None, struck=False)
            if outcome is None and (self.command.call or self.here.settings.faults_allowed):
                answer = self._call_outside()
                outcome = self._first_attempt(answer, struck=True)
            if outcome is None:
                outcome = self._record_success(answer)
        except (Settled, StepFailed, DatabaseUnavailable):
            raise
        except UnknownStep as error:
            leave_to_others(self.task, str(error))
            raise Settled(self._refusal(self.command.short_name, str(error)), goes_on=False) from error
        except Exception as error:
            return self._record_failure(error)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _first_attempt(self, answer: Any, *, struck: bool) -> Reply | Exception | None:
        """Execute the simple case; return None, without any effect, if this is not one."""
        delivery = Delivery(self.task.request.id, self.saga_id, self.started_at, answer)
        with self.here.database.transaction() as session:
            outcomes = FirstAttempts(session, self.sagas, self.command, struck=struck).make([delivery])
        return outcomes.get(delivery.task_id)

    def _call_outside(self) -> Any:
        """Inject the simulated fault and call the gateway, outside any transaction."""
        with self.here.database.reading() as session:
            turn = self._admit(session, lock=False)
            log = barrier.logged(session, [self.saga_id])[self.saga_id]
            entry = log.get((turn.step.name, turn.operation))
            if entry and entry.status == StepStatus.FAILED:
                raise StepFailed(reply_of(entry))  # it failed before: only the error callback must be sent again
            attempt = entry.attempts + 1 if entry else 1
            self._begin(turn, attempt)
            self._check_guard(turn, log)  # before the gateway is called, and again when its result is recorded
        return call_outside(
            self.command, turn.operation, turn.step.name, self.saga_id, turn.data, attempt, turn.saga.deadline_at
        )

    def _begin(self, turn: Turn, attempt: int) -> None:
        """Log the start of the attempt, once."""
        if not self._begun:
            self._begun = True
            say_begun(self.saga_id, turn.step.name, turn.operation, attempt)

    def _record_success(self, answer: Any) -> Reply:
        with self.here.database.transaction() as session:
            turn = self._admit(session, lock=True)
            now = self.here.now()
            row = barrier.enter(session, self.saga_id, turn.step.name, turn.operation, now)
            if row.status == StepStatus.FAILED:
                raise StepFailed(reply_of(row))
            self._begin(turn, row.attempts + 1)
            status = StepStatus.COMPLETED
            if turn.step.guard:
                self._check_guard(turn, barrier.logged(session, [self.saga_id])[self.saga_id])
            if turn.operation is Operation.COMPENSATION and not self._has_something_to_undo(session, turn):
                status = StepStatus.SKIPPED
            if status is StepStatus.COMPLETED or self.command.unconditional:
                event = invoke(self.command, session, turn.data, answer)
                if event:
                    row.event_id = emit(session, turn.saga.aggregate_id, event, saga_id=self.saga_id).id
                    row.result = dict(event.payload)
            finish(turn.saga, row, status, self.task.request.id, self.started_at, now)
            if turn.operation is Operation.ACTION:
                state_machine.advance(turn.saga, turn.plan, turn.step, now)
            else:
                state_machine.step_compensated(turn.saga, turn.plan, turn.step, now)
        return reply_of(row)

    def _record_failure(self, error: Exception) -> Reply:
        with self.here.database.transaction() as session:
            turn = self._admit(session, lock=True)
            now = self.here.now()
            row = barrier.enter(session, self.saga_id, turn.step.name, turn.operation, now)
            if row.status == StepStatus.FAILED:
                raise StepFailed(reply_of(row))
            rejected = isinstance(error, StepRejected) and turn.operation is Operation.ACTION
            task_id = self.task.request.id
            wait = record_failure(turn.saga, row, error, turn.policy, rejected, task_id, self.started_at, now)
            if wait is None:
                if event := give_up(session, turn, self.command, row, now):
                    row.event_id = emit(session, turn.saga.aggregate_id, event, saga_id=self.saga_id).id
            else:
                turn.saga.wake_at = state_machine.next_check_at(turn.saga, now, wait)
        if wait is None:
            raise StepFailed(reply_of(row)) from error
        retry_later(self.task, error, wait)

    def _has_something_to_undo(self, session: Session, turn: Turn) -> bool:
        action = barrier.block_action(session, self.saga_id, turn.step.name, self.started_at, turn.saga.error)
        # a call without an answer may have taken effect, whatever is logged: only the gateway can decide that
        return action.status == StepStatus.COMPLETED or self.command.call is not None

    def _check_guard(self, turn: Turn, log: barrier.Log) -> None:
        guard = turn.step.guard
        if guard is None or turn.operation is Operation.COMPENSATION:
            return
        if not guard.holds(Progress(turn.saga.payload, barrier.done(log))):
            raise StepRejected(f"guard: {guard.says}")

    def _admit(self, session: Session, *, lock: bool) -> Turn:
        """Return the step that the message addresses. Raises Settled when there is nothing (more) to execute."""
        if lock:
            saga = session.get(SagaInstance, self.saga_id, with_for_update=True) if is_uuid(self.saga_id) else None
        else:
            saga = barrier.seen(session, self.saga_id)
        definition = self.sagas(saga.saga_type) if saga else None
        found = definition.find(self.command) if definition else None
        if saga and found is None and _is_outlined(saga, self.command):
            raise UnknownStep(f"saga {saga.saga_type} has {self.command.name} in another version of the code only")
        if saga is None or definition is None or found is None:
            logger.warning("message for no known step, dropped", extra={"step": self.command.name})
            raise Settled(self._refusal(self.command.short_name, "no such saga or step"), goes_on=False)
        add_to_log_context(order_id=saga.aggregate_id)
        turn = Turn(saga, definition.plan(saga.steps, saga.outline), *found)
        if turn.step.name not in saga.steps:
            raise Settled(self._refusal(turn.step.name, "the saga has no such step"), goes_on=False)
        self._check_turn(session, turn)
        return turn

    def _check_turn(self, session: Session, turn: Turn) -> None:
        """Return if the message's step is the current one and the saga moves in its direction, else raise Settled.

        A redelivery of the message that ran the step before the current one continues its chain: its worker may have
        died before it sent the rest. Every other chain ends here, because a faster one continues. Otherwise each chain
        that the sweep sends would repeat all steps to come, and the longer a queue is, the more messages would be added
        to it.
        """
        match turn.fence:
            case Fence.PASSED:
                row = barrier.peek(session, self.saga_id, turn.step.name, turn.operation)
                reply = reply_of(row) if row else self._refusal(turn.step.name, "never ran")
                mine = row is not None and row.task_id == self.task.request.id
                raise Settled(reply, goes_on=mine and turn.following == turn.saga.current_step)
            case Fence.CLOSED:
                raise Settled(self._refusal(turn.step.name, f"the saga is {turn.saga.status}"), goes_on=False)
            case Fence.AHEAD:
                raise Settled(self._refusal(turn.step.name, f"{turn.saga.current_step} comes first"), goes_on=False)

    def _refusal(self, step: str, error: str) -> Reply:
        return Reply(success=False, saga_id=self.saga_id, step=step, error=error)


def _is_outlined(saga: SagaInstance, command: Command) -> bool:
    """Return whether a saga's own outline uses a command, whatever is declared here."""
    used = (name for step in saga.outline or () for name in (step["action"], step.get("compensation")))
    return command.name in used
