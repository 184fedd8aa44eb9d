"""Execute reactions to events in one transaction, for one saga or several: the common case of a choreography.

This is to reactions what ``first_attempts`` is to orchestrated steps. Three statements read everything under the sagas'
locks, however many sagas there are; one commit makes all of it durable. Redeliveries, gateway calls and actions that
must be blocked first are left to ``reactions.ReactionRun``, which gets what was read here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy.orm import Session

from app import fault_injection, runtime
from app.errors import StepRejected
from app.events import History, StoredEvent, delivery_of, histories, subscribers
from app.messages import Event, Reply
from app.messaging.batching import Outcomes, Wanted
from app.observability.logging import log_context
from app.saga import barrier, state_machine
from app.saga.attempts import finish, invoke_cleanly, record_failure, refuse, reply_of, say_begun
from app.saga.decisions import Compensate, Decision, Execute, Reaction
from app.saga.definition import NO_RETRY, Command, Operation, StepStatus
from app.saga.models import SagaInstance, SagaStep
from app.saga.stream import Answer, Stream


@dataclass(frozen=True)
class Delivery:
    """A message that announces an event to a reaction."""

    task_id: str | None
    saga_id: str
    event_id: str
    started_at: datetime


@dataclass(frozen=True)
class Found:
    """A reaction's decision and the data that it needs; ``data`` is the source of its command's message."""

    delivery: Delivery
    order_id: str
    deadline_at: datetime | None
    data: dict[str, Any]
    log: barrier.Log
    decision: Decision
    called_off: bool
    """Whether the decision is an action that must no longer start: see ``Execute``."""


@dataclass
class _Attempt:
    delivery: Delivery
    saga: SagaInstance
    past: History
    data: dict[str, Any]
    command: Command
    step: str
    operation: Operation
    message: Any
    status: StepStatus = StepStatus.COMPLETED
    event: Event | None = None
    refusal: StepRejected | None = None


def react_together(stream: Stream, task_name: str, reaction: Reaction, wanted: Sequence[Wanted]) -> Outcomes:
    """Process several messages for one reaction in one transaction: see ``app.messaging.batching.register``."""
    here = runtime.current()
    now = here.now()
    deliveries = [Delivery(one.task_id, one.arguments["saga_id"], one.arguments["event_id"], now) for one in wanted]
    with here.database.transaction() as session:
        return FirstReactions(stream, task_name, reaction).make(session, deliveries)


class FirstReactions:
    """Executes messages for one reaction in the caller's transaction. ``found`` holds the decisions, by task id."""

    def __init__(self, stream: Stream, task_name: str, reaction: Reaction) -> None:
        self.stream = stream
        self.task_name = task_name
        self.reaction = reaction
        self.found: dict[str | None, Found] = {}
        self.unknown: set[str | None] = set()
        """Tasks whose event has a type that no reaction declared here handles; one of another version may."""

    def make(self, session: Session, deliveries: Sequence[Delivery]) -> dict[str | None, Reply]:
        """Execute those of these messages that are the simple case; return the replies by task id.

        If a saga has several messages only its first is considered. Raises whatever a command raises, except a
        StepRejected of a command that has written nothing; the transaction must then be rolled back.
        """
        attempts = self._decide(session, {delivery.saga_id: delivery for delivery in reversed(deliveries)})
        self._lock(session, attempts)
        for attempt in attempts:
            self._run(session, attempt)
        now = runtime.current().now()
        rows = [self._log(session, attempt, now) for attempt in attempts]
        said = [
            Answer(attempt.saga, row, attempt.event, attempt.past)
            for attempt, row in zip(attempts, rows, strict=True)
            if attempt.event
        ]
        self.stream.answer_all(session, said)
        barrier.write(session, [attempt.saga for attempt in attempts], rows)
        replies = {attempt.delivery.task_id: reply_of(row) for attempt, row in zip(attempts, rows, strict=True)}
        return {**replies, **{found.delivery.task_id: self._nothing(found) for found in self._undecided()}}

    def _undecided(self) -> list[Found]:
        return [found for found in self.found.values() if found.decision is None]

    def _nothing(self, found: Found) -> Reply:
        return Reply(success=True, saga_id=found.delivery.saga_id, step=self.task_name)

    def _decide(self, session: Session, deliveries: Mapping[str, Delivery]) -> list[_Attempt]:
        """Call the reaction for each message; return the attempts that are the simple case."""
        locked = barrier.locked(session, deliveries)
        pasts = histories(session, [saga.aggregate_id for saga, _ in locked])
        attempts = []
        for saga, log in locked:
            delivery, past = deliveries[saga.id], pasts[saga.aggregate_id]
            event = past.event(delivery.event_id)
            if event and saga.saga_type == self.stream.name and not self.stream.declares(event.event_type):
                self.unknown.add(delivery.task_id)
            elif self._is_mine(saga, event):
                # facts come from the events; the payload adds only what is no business fact, such as the faults to
                # simulate
                data = {**saga.payload, **past.data}
                decision = self.reaction(past)
                called_off = isinstance(decision, Execute) and decision.unless in past.types
                found = Found(delivery, saga.aggregate_id, saga.deadline_at, data, log, decision, called_off)
                self.found[delivery.task_id] = found
                attempts.append(_attempt(found, saga, log, past))
        return [attempt for attempt in attempts if attempt]

    def _is_mine(self, saga: SagaInstance, event: StoredEvent | None) -> bool:
        """Return whether the reaction subscribes to this event; some, such as a refund, check nothing else."""
        if event is None or saga.saga_type != self.stream.name:
            return False
        return self.task_name in subscribers(event.event_type, self.stream.name)

    def _lock(self, session: Session, attempts: Sequence[_Attempt]) -> None:
        if len(attempts) > 1:
            # always in the same order of commands, and within each command, to avoid deadlocks
            for command in sorted({attempt.command for attempt in attempts}, key=attrgetter("name")):
                if command.lock_shared_rows:
                    command.lock_shared_rows(
                        session, [attempt.message for attempt in attempts if attempt.command is command]
                    )

    def _run(self, session: Session, attempt: _Attempt) -> None:
        saga = attempt.saga
        with log_context(task_id=attempt.delivery.task_id, saga_id=saga.id, order_id=saga.aggregate_id):
            say_begun(saga.id, attempt.step, attempt.operation, 1)
            if attempt.status is StepStatus.SKIPPED and not attempt.command.unconditional:
                return
            result = invoke_cleanly(session, attempt.command, attempt.operation, attempt.message)
            if isinstance(result, StepRejected):
                attempt.refusal = result
            else:
                attempt.event = result

    def _log(self, session: Session, attempt: _Attempt, now: datetime) -> SagaStep:
        saga, delivery = attempt.saga, attempt.delivery
        row = barrier.take(saga.id, attempt.step, attempt.operation, now)
        row.delivery_id = delivery_of(delivery.event_id, self.task_name)
        if attempt.refusal is None:
            finish(saga, row, attempt.status, delivery.task_id, delivery.started_at, now)
            return row
        policy, began = attempt.command.retry or NO_RETRY, delivery.started_at
        record_failure(saga, row, attempt.refusal, policy, True, delivery.task_id, began, now)
        if attempt.command.on_rejected:
            attempt.event = refuse(attempt.command, session, attempt.data, row.error)
        else:
            # past the point of no return nothing can be compensated: the saga is stuck until it is resumed
            state_machine.mark_stuck(saga, now, f"{self.task_name}: {row.error}", row.step)
        return row


def _attempt(found: Found, saga: SagaInstance, log: barrier.Log, past: History) -> _Attempt | None:
    """Return the attempt that a decision calls for, or None if it is not the simple case."""
    status, event = StepStatus.COMPLETED, None
    if found.called_off:
        return None
    match found.decision:
        case Execute(command):
            step, operation = command.short_name, Operation.ACTION
        case Compensate(action, command, event_if_nothing_done):
            step, operation = action.short_name, Operation.COMPENSATION
            acted = log.get((step, Operation.ACTION))
            if acted is None or acted.status in barrier.OPEN:
                return None  # the action must be blocked first
            if acted.status != StepStatus.COMPLETED:
                status, event = StepStatus.SKIPPED, Event(event_if_nothing_done) if event_if_nothing_done else None
        case _:
            return None
    free = barrier.is_free(log, step, operation)
    if command.call or command.void or not free or fault_injection.fault_for(command, found.data):
        return None
    message = command.message(found.data)
    return _Attempt(found.delivery, saga, past, found.data, command, step, operation, message, status, event)
