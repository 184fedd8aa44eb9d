"""First reactions to events in one transaction, of one saga or of several: how nearly all of a choreography is done.

What ``first_attempts`` is to the orchestrated step, this is to a reaction: everything is read under the sagas' locks by
three statements, however many they are; decided, done and committed at once. A repetition, a call to a gateway, a door
to be shut: all that is left to ``reactions.ReactionRun``, with what was found.
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
from app.saga.decisions import Act, Decision, Reaction, Undo
from app.saga.definition import NO_RETRY, Command, Operation, StepStatus
from app.saga.models import SagaInstance, SagaStep
from app.saga.stream import Answer, Stream


@dataclass(frozen=True)
class Delivery:
    """One message that an event happened."""

    task_id: str | None
    saga_id: str
    event_id: str
    started_at: datetime


@dataclass(frozen=True)
class Found:
    """What a message's reaction decides, and what that needs; ``data`` is what its command's message is made of."""

    delivery: Delivery
    order_id: str
    deadline_at: datetime | None
    data: dict[str, Any]
    log: barrier.Log
    decision: Decision
    called_off: bool
    """Whether the decision is an action that is not to be begun any more: see ``Act``."""


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
    """Do what messages for one reaction ask for in one transaction: see ``app.messaging.batching.register``."""
    here = runtime.current()
    now = here.now()
    deliveries = [Delivery(one.task_id, one.arguments["saga_id"], one.arguments["event_id"], now) for one in wanted]
    with here.database.transaction() as session:
        return FirstReactions(stream, task_name, reaction).make(session, deliveries)


class FirstReactions:
    """Messages for one reaction, in a transaction of the caller's. ``found`` is what was found, by task id."""

    def __init__(self, stream: Stream, task_name: str, reaction: Reaction) -> None:
        self.stream = stream
        self.task_name = task_name
        self.reaction = reaction
        self.found: dict[str | None, Found] = {}
        self.unknown: set[str | None] = set()
        """The tasks whose event is of a type that no reaction declared here waits for: another version's may."""

    def make(self, session: Session, deliveries: Sequence[Delivery]) -> dict[str | None, Reply]:
        """Do what these messages ask for, as far as it is the simple case; returns the replies by task id.

        Of a saga that has several only the first is looked at. Raises whatever a command raises, but a StepRejected
        of one that has written nothing: then nothing that these messages ask for may be committed.
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
        """Have the reaction decide what to do about each; returns what of it is simple."""
        locked = barrier.locked(session, deliveries)
        pasts = histories(session, [saga.aggregate_id for saga, _ in locked])
        attempts = []
        for saga, log in locked:
            delivery, past = deliveries[saga.id], pasts[saga.aggregate_id]
            event = past.event(delivery.event_id)
            if event and saga.saga_type == self.stream.name and not self.stream.declares(event.event_type):
                self.unknown.add(delivery.task_id)
            elif self._is_mine(saga, event):
                # the events speak; the payload adds only what is no business fact, such as the faults to simulate
                data = {**saga.payload, **past.data}
                decision = self.reaction(past)
                called_off = isinstance(decision, Act) and decision.unless in past.types
                found = Found(delivery, saga.aggregate_id, saga.deadline_at, data, log, decision, called_off)
                self.found[delivery.task_id] = found
                attempts.append(_attempt(found, saga, log, past))
        return [attempt for attempt in attempts if attempt]

    def _is_mine(self, saga: SagaInstance, event: StoredEvent | None) -> bool:
        """Tell whether this event is one that the reaction waits for: some, such as a refund, ask no more than that."""
        if event is None or saga.saga_type != self.stream.name:
            return False
        return self.task_name in subscribers(event.event_type, self.stream.name)

    def _lock(self, session: Session, attempts: Sequence[_Attempt]) -> None:
        if len(attempts) > 1:
            # in one order, as within each of them
            for command in sorted({attempt.command for attempt in attempts}, key=attrgetter("name")):
                if command.locks:
                    command.locks(session, [attempt.message for attempt in attempts if attempt.command is command])

    def _run(self, session: Session, attempt: _Attempt) -> None:
        saga = attempt.saga
        with log_context(task_id=attempt.delivery.task_id, saga_id=saga.id, order_id=saga.aggregate_id):
            say_begun(saga.id, attempt.step, attempt.operation, 1)
            if attempt.status is StepStatus.SKIPPED and not attempt.command.always:
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
        if attempt.command.refused:
            attempt.event = refuse(attempt.command, session, attempt.data, row.error)
        else:
            # past the point of no return there is no way back: it waits for a person to resume it
            state_machine.mark_stuck(saga, now, f"{self.task_name}: {row.error}", row.step)
        return row


def _attempt(found: Found, saga: SagaInstance, log: barrier.Log, past: History) -> _Attempt | None:
    """Return what a decision asks to be done, or None if that is not the simple case."""
    status, event = StepStatus.COMPLETED, None
    if found.called_off:
        return None
    match found.decision:
        case Act(command):
            step, operation = command.short_name, Operation.ACTION
        case Undo(action, command, otherwise):
            step, operation = action.short_name, Operation.COMPENSATION
            acted = log.get((step, Operation.ACTION))
            if acted is None or acted.status in barrier.OPEN:
                return None  # its door must be shut first
            if acted.status != StepStatus.COMPLETED:
                status, event = StepStatus.SKIPPED, Event(otherwise) if otherwise else None
        case _:
            return None
    free = barrier.is_free(log, step, operation)
    if command.call or command.void or not free or fault_injection.fault_for(command, found.data):
        return None
    message = command.message(found.data)
    return _Attempt(found.delivery, saga, past, found.data, command, step, operation, message, status, event)
