"""Choreography: services react to each other's events, without a coordinator.

No service decides by the saga's row: it is a projection of the events, for readers and for the sweep.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Any

from sqlalchemy.orm import Session

from durable_sagas import saga_log
from durable_sagas.database import after_commit, current
from durable_sagas.decisions import (
    Check,
    Drop,
    Ignore,
    PutBack,
    QueueState,
    Run,
    Skip,
    Void,
    decide_check,
    decide_reaction,
    finished_deliveries,
)
from durable_sagas.definition import (
    ACTIVE,
    COMPENSATION_STARTED,
    COMPLETED,
    FAILED,
    NO_RETRY,
    RETRY_UNTIL_STUCK,
    Command,
    Operation,
    SagaStatus,
    StepStatus,
    takes_reason,
)
from durable_sagas.deliveries import Attempt, Delivery, Dismissal, dismiss
from durable_sagas.engine import CeleryTask, Engine
from durable_sagas.errors import Conflict, DefinitionError, StepFailed
from durable_sagas.events import Events, NewEvent, delivery_of
from durable_sagas.execution import Execution, delivery_to, record_end
from durable_sagas.history import History, histories, history
from durable_sagas.ids import new_id
from durable_sagas.manual_completion import (
    ManualCompletion,
    PendingCompensation,
    pending_compensation,
    record_completion,
    recording,
    select,
)
from durable_sagas.messages import Event, EventType, Reply
from durable_sagas.messaging.publisher import as_task, current_task_id
from durable_sagas.models import SagaInstance, SagaStep, StoredEvent
from durable_sagas.outages import suspend_deadline
from durable_sagas.reactions import Abort, Compensate, Decision, Execute, Reaction
from durable_sagas.saga_log import SagaRecord

logger = logging.getLogger(__name__)

Projection = Callable[[History], str | None]


@dataclass(frozen=True)
class SagaEvent:
    """An event to append to a locked saga, the events before it, and the entry of the operation it results from."""

    saga: SagaInstance
    event: Event
    past: History
    entry: SagaStep | None = None


@dataclass(frozen=True)
class PendingReaction:
    """A reaction that has yet to act, since when it could, and when its first failed attempt, if any, began."""

    task_name: str
    ready_at: datetime
    begun_at: datetime | None

    @classmethod
    def of(cls, task_name: str, happened_at: datetime, entry: SagaStep | None) -> "PendingReaction":
        """Return the pending reaction to an event, which is retried if its operation has failed."""
        if entry is None or not entry.failures:
            return cls(task_name, happened_at, None)
        retry_at = entry.failures[-1].get("retry_at")
        ready_at = max(happened_at, datetime.fromisoformat(retry_at)) if retry_at else happened_at
        return cls(task_name, ready_at, datetime.fromisoformat(entry.failures[0]["started_at"]))


class Choreography:
    """The reactions of the services to the events of one type of saga. Implements ``registry.Driver``.

    ``projection`` derives from the events which of the states COMPLETED, FAILED, COMPENSATION_STARTED is reached; it is
    called when one of the ``events`` is written. ``timed_out`` and ``cancel_requested`` are the events emitted
    when the deadline passes, and when a cancellation is requested; after ``point_of_no_return`` no request is accepted.
    """

    def __init__(
        self,
        engine: Engine,
        events: Events,
        name: str,
        *,
        timed_out: EventType,
        cancel_requested: EventType,
        point_of_no_return: EventType,
    ) -> None:
        self.engine = engine
        self.events = events
        self.state_machine = engine.state_machine
        self.name = name
        self.timed_out = timed_out
        self.cancel_requested = cancel_requested
        self.point_of_no_return = point_of_no_return
        self._projection: Projection = lambda _: None
        self._projected: frozenset[EventType] = frozenset()
        self._reactions: dict[str, tuple[frozenset[EventType], Reaction]] = {}

    def on(self, *event_types: EventType, queue: str) -> Callable[[Reaction], Reaction]:
        """Register a reaction to these event types, as the task ``<queue>.<function>``."""

        def declare(reaction: Reaction) -> Reaction:
            task_name = f"{queue}.{reaction.__name__}"
            execution = Execution(self.engine, EventDeliveries(self, task_name, reaction))

            # the log counts the attempts, not Celery; a step that failed for good is no error of the worker
            @self.engine.task(task_name, bind=True, max_retries=None, throws=(StepFailed,))
            def react(task: CeleryTask, *, saga_id: str, event_id: str) -> Reply:
                return execution.run(task, delivery_to(task, self.engine, saga_id, event_id))

            self.engine.batches.register(task_name, execution.run_batch)
            self.events.subscribe(event_types, task_name, scope=self.name)
            self._reactions[task_name] = (frozenset(event_types), reaction)
            return reaction

        return declare

    def decision(self, task_name: str, past: History) -> Decision:
        """Return the decision of a task's reaction for a history; for display only."""
        _, reaction = self._reactions[task_name]
        return reaction(past)

    def projection(self, *events: EventType) -> Callable[[Projection], Projection]:
        """Register the function that derives the saga's state, called whenever one of these events is written."""

        def declare(function: Projection) -> Projection:
            self._projection, self._projected = function, frozenset(events)
            return function

        return declare

    def start(
        self, session: Session, create: Command, aggregate_id: str, payload: Mapping[str, Any], state: str
    ) -> SagaInstance:
        """Write a new saga in the caller's transaction, and run ``create``, the action whose event starts it.

        The saga starts in ``state``; subscribers are notified of the event after the commit.

        Raises DefinitionError if ``create`` calls a gateway or returns no event, and if no reaction handles
        ``timed_out`` or ``cancel_requested``: a saga past its deadline would never end. Raises ValueError (pydantic's
        ValidationError) if the message cannot be built from the payload.
        """
        for event_type in (self.timed_out, self.cancel_requested):
            if not self.reactions_to(event_type):
                raise DefinitionError(f"choreography {self.name}: no reaction handles {event_type}")
        if create.call:
            raise DefinitionError(f"{create.name} calls a gateway, so no saga can start with it")
        now = self.engine.database.now()
        saga = SagaInstance(
            id=new_id(), saga_type=self.name, aggregate_id=aggregate_id, steps=[], payload=dict(payload)
        )
        record = SagaRecord(saga)
        with current(session), self.engine.tracer.start_saga_span(session, saga):
            self.state_machine.begin(saga, now, self.engine.options.saga_timeout_seconds)
            saga.status = SagaStatus.RUNNING
            self.state_machine.enter_state(saga, state, now)
            entry = record.enter(create.short_name, Operation.ACTION, now)
            record_end(self.engine, saga, entry, StepStatus.COMPLETED, None, now, now)
            reason = {"reason": None} if takes_reason(create.handler) else {}
            event = create.handler(session, create.message(saga.payload), **reason)
            if event is None:
                raise DefinitionError(f"{create.name} returns no event, so no saga can start with it")
            self.append(session, [SagaEvent(saga, event, History([]), entry)], now)
            self._wait_for_reaction(saga, event.type, now)
            saga_log.insert_new(session, [record])
        return saga

    def can_drive(self, saga: SagaInstance) -> bool:  # noqa: ARG002  (a driver's)
        """Return True: a process of any version can republish the events."""
        return True

    def timeout(self, saga: SagaInstance) -> float:  # noqa: ARG002  (a driver's)
        """Return the timeout of the whole saga."""
        return self.engine.options.saga_timeout_seconds

    def check(self, session: Session, record: SagaRecord, queues: Mapping[str, QueueState], found: Check) -> Check:
        """Return what to do, from every reaction that has yet to act; the row knows the queue of one of them."""
        saga, now = record.saga, self.engine.database.now()
        past = history(session, saga.aggregate_id)
        pending = self._pending_reactions(record, past)
        if self._is_suspended(saga, past):
            return found
        if not pending or any(self.engine.publisher.queue_of(one.task_name) not in queues for one in pending):
            return found if found is not Check.REDRIVE or self._has_been_quiet(saga, past) else Check.WAIT
        timeout = timedelta(seconds=self.timeout(saga))
        redrives = saga.redrives - 1  # before this one
        checks, ready = set(), []
        for one in pending:
            ready_at = max(one.ready_at, saga.ready_at) if redrives and saga.ready_at else one.ready_at
            ready.append(ready_at)
            deadline = max(saga.deadline_at, one.begun_at + timeout) if saga.deadline_at and one.begun_at else None
            progress = queues[self.engine.publisher.queue_of(one.task_name)]
            checks.add(decide_check(ready_at, redrives, deadline or saga.deadline_at, timeout, progress, now))
        if Check.TIME_OUT in checks:
            return Check.TIME_OUT
        # it may have been served by the queue that its row says: a reaction need not change the row
        is_probe = found is Check.PROBE and saga.queue in {
            self.engine.publisher.queue_of(one.task_name) for one in pending
        }
        if is_probe or Check.REDRIVE in checks:
            return Check.REDRIVE
        self.state_machine.wait_for(saga, pending[0].task_name, ready[0])
        return Check.WAIT

    def _is_suspended(self, saga: SagaInstance, past: History) -> bool:
        """Return whether the saga's deadline was suspended."""
        return saga.status == SagaStatus.RUNNING and saga.deadline_at is None and not past.has(self.timed_out)

    def _has_been_quiet(self, saga: SagaInstance, past: History) -> bool:
        """Return whether there has been no event for a while; else look at the saga again when there has been none.

        A saga makes progress that its row does not show.
        """
        quiet_since = past.events[-1].timestamp + timedelta(seconds=self.engine.options.stall_seconds)
        if quiet_since <= self.engine.database.now():
            return True
        saga.redrives = 1  # this one
        saga.queue = saga.ready_at = None  # it goes by time
        saga.wake_at = min(quiet_since, saga.deadline_at) if saga.deadline_at else quiet_since
        return False

    def _pending_reactions(self, record: SagaRecord, past: History) -> list[PendingReaction]:
        """Return the reactions that have yet to act, the oldest first."""
        pending = []
        for name, (types, reaction) in self._reactions.items():
            happened = [event.timestamp for event in past.events if event.event_type in types]
            decision = reaction(past) if happened else None
            if decision is None:
                continue
            verdict = decide_reaction(decision, record.log, past.types, "")
            if isinstance(verdict, Run | Skip | Void):
                is_compensation = isinstance(decision, Compensate)
                command = decision.command if isinstance(decision, Execute) else decision.action
                operation = Operation.COMPENSATION if is_compensation else Operation.ACTION
                pending.append(PendingReaction.of(name, max(happened), record.log.get((command.short_name, operation))))
        return sorted(pending, key=attrgetter("ready_at"))

    def drive(self, session: Session, record: SagaRecord) -> None:
        """Republish the events of an unfinished saga; every reaction is idempotent."""
        saga, past = record.saga, history(session, record.saga.aggregate_id)
        now, options = self.engine.database.now(), self.engine.options
        saga.unsupported_since = None
        if self._is_suspended(saga, past):
            self.state_machine.restart_deadline(saga, now, options.saga_timeout_seconds)
        if pending := self._pending_reactions(record, past):
            self.state_machine.wait_for(saga, pending[0].task_name, now)
        else:
            saga.queue = saga.ready_at = None  # another version may have the reaction: it goes by time
        # alternately: the worker that repeats an event, or this process, may be of a version that lacks a subscriber
        if saga.redrives % 2:
            self._republish_roots(session, saga, past)
        else:
            self._republish_unfinished(session, record, past)

    def time_out(self, session: Session, record: SagaRecord) -> None:
        """Publish once that the deadline has passed; the service that owns the pivot decides what follows."""
        record.saga.deadline_at = None
        past = history(session, record.saga.aggregate_id)
        if past.has(self.timed_out):
            self._republish_roots(session, record.saga, past)
        else:
            event = Event(self.timed_out, {"reason": "not settled before its deadline"})
            self.append(session, [SagaEvent(record.saga, event, past)], self.engine.database.now())

    def cancel(self, session: Session, record: SagaRecord) -> bool:
        """Publish that cancellation was requested. Return False if it was already.

        Raises Conflict past the point of no return.
        """
        saga = record.saga
        past = history(session, saga.aggregate_id)
        if past.has(self.point_of_no_return):
            raise Conflict("too late to cancel: it is past the point of no return", status=saga.status)
        if past.has(self.cancel_requested):
            return False
        event = Event(self.cancel_requested, {"reason": "cancelled on request"})
        self.append(session, [SagaEvent(saga, event, past)], self.engine.database.now())
        return True

    def resume(self, session: Session, record: SagaRecord) -> None:
        """Retry the exhausted operations of a stuck saga, and republish the saga's events."""
        past = history(session, record.saga.aggregate_id)
        if record.saga.status == SagaStatus.STUCK:
            self._unstick(record.saga)
            record.reset_exhausted()
        self._republish_unfinished(session, record, past)

    def skip(self, session: Session, record: SagaRecord, report: ManualCompletion) -> None:
        """Record a compensation as completed manually, and publish the event that its service has not published."""
        saga, past = record.saga, history(session, record.saga.aggregate_id)
        pending = self._pending_compensations(record, past)
        selected = select(saga, pending, report)
        self._unstick(saga)
        now = self.engine.database.now()
        with recording(saga):
            event = selected[0].complete(session, record, {**saga.payload, **past.data}, now)
        for one in selected:
            record_completion(one.entry, one.status, report, now)
        if event:
            self.append(session, [SagaEvent(saga, event, past, selected[0].entry)], now)
        for other in pending:
            if other not in selected:
                self.state_machine.mark_stuck(saga, now, f"{other.entry.step}: {other.entry.error}", other.entry.step)

    def _unstick(self, saga: SagaInstance) -> None:
        self.state_machine.resume(saga, self.engine.database.now(), self.engine.options.saga_timeout_seconds)
        saga.current_step = None

    def _pending_compensations(self, record: SagaRecord, past: History) -> list[PendingCompensation]:
        decisions = [reaction(past) for types, reaction in self._reactions.values() if not past.types.isdisjoint(types)]
        return [one for entry in record.exhausted() if (one := pending_compensation(entry, decisions))]

    def reactions_to(self, event_type: EventType) -> list[str]:
        """Return the tasks of the reactions that this version of the code has to events of this type."""
        return self.events.subscribers(event_type, self.name)

    def append(self, session: Session, events: Sequence[SagaEvent], now: datetime) -> None:
        """Write events, keep the id of each on its operation's entry, and update the sagas' rows.

        The reactions are notified after the commit.
        """
        new = [
            NewEvent(one.saga.aggregate_id, one.saga.id, one.event, one.entry.task_id if one.entry else None)
            for one in events
        ]
        for one, stored in zip(events, self.events.emit_all(session, new, now), strict=True):
            if one.entry:
                one.entry.event_id = stored.id
                one.entry.result = dict(stored.payload)
            with as_task(one.entry.task_id if one.entry else None):
                if stored.event_type in self._projected:
                    self._project(one.saga, stored, History([*one.past.events, stored]))
                self.deliver(session, one.saga.id, stored)

    def _republish_roots(self, session: Session, saga: SagaInstance, past: History) -> None:
        """Republish the first event and those that no reaction published; completed reactions republish the rest."""
        roots = {past.events[0].event_type, self.timed_out, self.cancel_requested}
        for event in past.events:
            if event.event_type in roots:
                self.deliver(session, saga.id, event, again=True)

    def _republish_unfinished(self, session: Session, record: SagaRecord, past: History) -> None:
        """Send the events of a saga again, after the commit, to the reactions whose operations have not ended.

        The event that an operation published when it ended is among the saga's events itself.
        """
        finished = finished_deliveries(record.log)
        for event in past.events:
            self.deliver(session, record.saga.id, event, again=True, finished=finished)

    def deliver(
        self,
        session: Session,
        saga_id: str,
        event: StoredEvent,
        *,
        again: bool = False,
        finished: Collection[str | None] = (),
    ) -> None:
        """Send an event of a saga to its reactions after the commit, except to those whose delivery is ``finished``.

        It is safe to repeat: ``again``.
        """
        task_names = self.reactions_to(event.event_type)
        if finished:
            task_names = [name for name in task_names if delivery_of(event.id, name) not in finished]
        suspend = partial(suspend_deadline, self.engine, saga_id)
        send = partial(self.events.deliver, task_names, event.id, saga_id, current_task_id(), suspend, again=again)
        after_commit(session, send)

    def _project(self, saga: SagaInstance, stored: StoredEvent, past: History) -> None:
        state = self._projection(past)
        if saga.state in {COMPLETED, FAILED, state}:
            return
        if state == COMPLETED:
            self.state_machine.complete(saga, stored.timestamp)
        elif state == FAILED:
            self.state_machine.complete_compensation(saga, stored.timestamp)
        elif state == COMPENSATION_STARTED:
            saga.current_step = None
            reason = f"{stored.event_type}: {stored.payload.get('reason', 'failed')}"
            self.state_machine.start_compensation(saga, stored.timestamp, reason)
        if saga.status in ACTIVE:
            self._wait_for_reaction(saga, stored.event_type, stored.timestamp)

    def _wait_for_reaction(self, saga: SagaInstance, event_type: EventType, now: datetime) -> None:
        """Record the queue of one of the reactions to an event: a hint to the sweep, which looks for all of them."""
        for task_name in self.reactions_to(event_type)[:1]:
            self.state_machine.wait_for(saga, task_name, now)


class EventDeliveries:
    """The deliveries of events to one reaction. Implements ``deliveries.PatternRules``."""

    calls_gateway = False

    def __init__(self, choreography: Choreography, task_name: str, reaction: Reaction) -> None:
        self.choreography = choreography
        self.task_name = task_name
        self.reaction = reaction

    def decide(self, session: Session, found: Sequence[tuple[Delivery, SagaRecord]]) -> list[Attempt | Dismissal]:
        """Return what each delivery means: what the reaction decides by the saga's events."""
        pasts = histories(session, [record.saga.aggregate_id for _, record in found])
        return [self._decide(delivery, record, pasts[record.saga.aggregate_id]) for delivery, record in found]

    def _decide(self, delivery: Delivery, record: SagaRecord, past: History) -> Attempt | Dismissal:
        event = past.event(delivery.event_id) if record.saga.saga_type == self.choreography.name else None
        reactions = self.choreography.reactions_to(event.event_type) if event else []
        if event and not reactions:
            reason = "no reaction that is declared here waits for its event"
            return dismiss(delivery, PutBack(reason), self.task_name)
        # some reactions, such as a refund, check nothing else than that they subscribe to the event
        if event is None or self.task_name not in reactions:
            logger.warning("message for no known event, dropped")
            return dismiss(delivery, Drop("no such event"), self.task_name)
        decision = delivery.decision or self.reaction(past)
        delivery_id = delivery_of(event.id, self.task_name)
        match decision:
            case None:
                return dismiss(delivery, Ignore(), self.task_name)
            case Compensate(action, command):
                step, operation, policy = action.short_name, Operation.COMPENSATION, RETRY_UNTIL_STUCK
            case Execute(command) | Abort(command):
                step, operation, policy = command.short_name, Operation.ACTION, command.retry or NO_RETRY
        verdict = decide_reaction(decision, record.log, past.types, delivery_id)
        if isinstance(verdict, Drop | Ignore | PutBack):
            return dismiss(delivery, verdict, step)
        # facts come from the events; the payload adds only what is no business fact
        data = {**record.saga.payload, **past.data}
        return Attempt(
            delivery,
            record,
            verdict,
            command,
            step,
            operation,
            data=data,
            policy=policy,
            delivery_id=delivery_id,
            past=past,
            decision=decision,
        )

    def deadline(self, attempt: Attempt, started_at: datetime) -> datetime | None:
        """Return when the action is overdue; a compensation never is."""
        if attempt.operation is Operation.COMPENSATION:
            return None
        return started_at + timedelta(seconds=self.choreography.engine.options.saga_timeout_seconds)

    def advance(self, attempt: Attempt, now: datetime) -> None:
        """Do nothing: the saga's row is a projection of its events."""

    def publish(self, session: Session, attempts: Sequence[Attempt], now: datetime) -> None:
        """Write the events of attempts."""
        events = [
            SagaEvent(attempt.saga, attempt.event, attempt.past, attempt.entry)
            for attempt in attempts
            if attempt.event and attempt.past
        ]
        self.choreography.append(session, events, now)

    def republish(self, session: Session, attempt: Attempt, entry: SagaStep) -> None:
        """Send again the event that an operation published, which may not have arrived."""
        if entry.event_id and attempt.past and (event := attempt.past.event(entry.event_id)):
            with as_task(attempt.delivery.task_id):
                self.choreography.deliver(session, attempt.saga.id, event, again=True)
