"""Execute first attempts at one command in one transaction, for one saga or several: the common case of a step.

Usually the saga is where the message expects it and nothing was tried yet. Then two statements read and a few write,
however many sagas there are, and one commit makes all of it durable. Everything else (a redelivery, a retry, a fault to
inject, a saga in the other direction) is left to ``execution.StepRun``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from app import fault_injection, runtime
from app.errors import StepFailed, StepRejected
from app.events import Said, emit_all
from app.messages import Event, Reply
from app.messaging.batching import Outcomes, Wanted
from app.observability.logging import log_context
from app.saga import barrier, state_machine
from app.saga.attempts import finish, invoke_cleanly, record_failure, refuse, reply_of, say_begun
from app.saga.definition import Command, Operation, Progress, Saga, StepStatus, UnknownStep
from app.saga.models import SagaInstance, SagaStep
from app.saga.turn import Fence, Turn


@dataclass(frozen=True)
class Delivery:
    """A message that requests a step of a saga; ``answer`` is the result of the command's gateway, if it has one."""

    task_id: str | None
    saga_id: str
    started_at: datetime
    answer: Any = None


@dataclass
class _Attempt:
    delivery: Delivery
    turn: Turn
    message: Any
    status: StepStatus = StepStatus.COMPLETED
    event: Event | None = None
    refusal: StepRejected | None = None
    row: SagaStep = field(init=False)


def make_together(sagas: Callable[[str], Saga | None], command: Command, wanted: Sequence[Wanted]) -> Outcomes:
    """Process several messages for one command in one transaction: see ``app.messaging.batching.register``."""
    here = runtime.current()
    now = here.now()
    deliveries = [Delivery(one.task_id, one.arguments["saga_id"], now) for one in wanted]
    with here.database.transaction() as session:
        return FirstAttempts(session, sagas, command).make(deliveries)


class FirstAttempts:
    """Executes first attempts in the caller's transaction."""

    def __init__(
        self, session: Session, sagas: Callable[[str], Saga | None], command: Command, *, struck: bool = False
    ) -> None:
        """Set ``struck`` if the start of the attempt has been logged and its fault, if any, has been injected."""
        self.session = session
        self.sagas = sagas
        self.command = command
        self.struck = struck

    def make(self, deliveries: Sequence[Delivery]) -> dict[str | None, Reply | Exception]:
        """Execute those of these messages that are the simple case; return the results by task id.

        If a saga has several messages only its first is considered. Raises whatever a command raises, except a
        StepRejected of a command that has written nothing; the transaction must then be rolled back.
        """
        attempts = self._admit({delivery.saga_id: delivery for delivery in reversed(deliveries)})
        if self.command.lock_shared_rows and len(attempts) > 1:
            self.command.lock_shared_rows(self.session, [attempt.message for attempt in attempts])
        for attempt in attempts:
            self._run(attempt)
        now = runtime.current().now()
        for attempt in attempts:
            self._log(attempt, now)
        self._emit(attempts)
        barrier.write(self.session, [attempt.turn.saga for attempt in attempts], [attempt.row for attempt in attempts])
        return {attempt.delivery.task_id: _outcome(attempt) for attempt in attempts}

    def _admit(self, deliveries: Mapping[str, Delivery]) -> list[_Attempt]:
        found = barrier.locked(self.session, deliveries)
        attempts = (self._attempt(deliveries[saga.id], saga, log) for saga, log in found)
        return [attempt for attempt in attempts if attempt]

    def _attempt(self, delivery: Delivery, saga: SagaInstance, log: barrier.Log) -> _Attempt | None:
        """Return the attempt that a message asks for, or None if it is not the simple case."""
        turn = self._turn(saga)
        if turn is None or turn.fence is not Fence.OPEN or not barrier.is_free(log, turn.step.name, turn.operation):
            return None
        if not self.struck and fault_injection.fault_for(self.command, saga.payload):
            return None
        attempt = _Attempt(delivery, turn, self.command.message(turn.data))
        if turn.operation is Operation.COMPENSATION:
            action = log.get((turn.step.name, Operation.ACTION))
            if action is None or action.status in barrier.OPEN:
                return None  # the action must be blocked first
            # a call without an answer may have taken effect, whatever is logged: only the gateway can decide that
            if action.status != StepStatus.COMPLETED and self.command.call is None:
                attempt.status = StepStatus.SKIPPED
        elif turn.step.guard and not turn.step.guard.holds(Progress(saga.payload, barrier.done(log))):
            return None
        return attempt

    def _turn(self, saga: SagaInstance) -> Turn | None:
        definition = self.sagas(saga.saga_type)
        found = definition.find(self.command) if definition else None
        if definition is None or found is None or found[0].name not in saga.steps:
            return None
        try:
            return Turn(saga, definition.plan(saga.steps, saga.outline), *found)
        except UnknownStep:
            return None

    def _run(self, attempt: _Attempt) -> None:
        delivery, turn = attempt.delivery, attempt.turn
        with log_context(task_id=delivery.task_id, saga_id=delivery.saga_id, order_id=turn.saga.aggregate_id):
            if not self.struck:
                say_begun(delivery.saga_id, turn.step.name, turn.operation, 1)
            self._invoke(attempt)

    def _invoke(self, attempt: _Attempt) -> None:
        """Call the command's handler; keep a rejection, to be recorded in the same transaction."""
        if attempt.status is StepStatus.SKIPPED and not self.command.unconditional:
            return
        result = invoke_cleanly(
            self.session, self.command, attempt.turn.operation, attempt.message, attempt.delivery.answer
        )
        if isinstance(result, StepRejected):
            attempt.refusal = result
        else:
            attempt.event = result

    def _log(self, attempt: _Attempt, now: datetime) -> None:
        turn, delivery = attempt.turn, attempt.delivery
        row = barrier.take(delivery.saga_id, turn.step.name, turn.operation, now)
        attempt.row = row
        if attempt.refusal:
            task_id, began = delivery.task_id, delivery.started_at
            record_failure(turn.saga, row, attempt.refusal, turn.policy, True, task_id, began, now)
            attempt.event = give_up(self.session, turn, self.command, row, now)
            return
        if attempt.event:
            row.result = dict(attempt.event.payload)
        finish(turn.saga, row, attempt.status, delivery.task_id, delivery.started_at, now)
        if turn.operation is Operation.ACTION:
            state_machine.advance(turn.saga, turn.plan, turn.step, now)
        else:
            state_machine.step_compensated(turn.saga, turn.plan, turn.step, now)

    def _emit(self, attempts: Sequence[_Attempt]) -> None:
        said = []
        for attempt in attempts:
            if attempt.event:
                saga, row = attempt.turn.saga, attempt.row
                said.append((row, Said(saga.aggregate_id, saga.id, attempt.event, row.task_id)))
        for (row, _), stored in zip(said, emit_all(self.session, [one for _, one in said]), strict=True):
            row.event_id = stored.id


def give_up(session: Session, turn: Turn, command: Command, row: SagaStep, now: datetime) -> Event | None:
    """Apply the consequence of an operation's last failure; return the event to publish, if the service has one."""
    if turn.operation is Operation.COMPENSATION or turn.plan.past_pivot(turn.step.name):
        state_machine.mark_stuck(turn.saga, now, f"{command.name}: {row.error}")
        return None
    return refuse(command, session, turn.data, row.error) if command.on_rejected else None


def _outcome(attempt: _Attempt) -> Reply | Exception:
    reply = reply_of(attempt.row)
    return StepFailed(reply) if attempt.refusal else reply
