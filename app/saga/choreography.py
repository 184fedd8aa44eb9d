"""Choreography: services react to each other's events, and nobody coordinates.

A reaction is a small pure function from what has happened to what its service now does. Everything else is here,
once: each reaction is a named Celery task on its service's queue, repeated deliveries say again what was said before,
calls to gateways happen outside transactions, and the barrier decides every race.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn

from celery import Task
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from app import runtime
from app.celery import app
from app.database import after_commit
from app.errors import Conflict, StepFailed, StepRejected
from app.events import History, StoredEvent, emit, history, subscribe, subscribers, tell
from app.ids import is_uuid, new_id
from app.messages import Event, EventType, Reply
from app.saga import barrier, registry, transitions
from app.saga.definition import (
    COMPENSATION_STARTED,
    COMPLETED,
    FAILED,
    ONCE,
    UNDO,
    Command,
    Operation,
    RetryPolicy,
    SagaStatus,
    StepStatus,
)
from app.saga.execution import (
    call_outside,
    describe,
    finish,
    gateway_key,
    invoke,
    log_context,
    note_failure,
    refuse,
    reply_of,
    retried_on_database_fault,
    retry_later,
)
from app.saga.models import SagaInstance, SagaStep

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Act:
    """Run a service's action, once."""

    command: Command


@dataclass(frozen=True)
class Undo:
    """Undo an action, whether or not it has run; if it has not, it never will."""

    action: Command
    compensation: Command
    otherwise: EventType | None = None
    """What to say when there was nothing to undo and the compensation had no need to run."""


@dataclass(frozen=True)
class Close:
    """Say how an action ended; if it has not ended yet it has failed now, and never takes effect."""

    action: Command
    reason: str


Decision = Act | Undo | Close | None
Reaction = Callable[[History], Decision]


class Choreography:
    """The reactions of the services to the events of one kind of saga. It is a ``registry.Driver``, too.

    ``milestone`` says, from the events, which of the states COMPLETED, FAILED, COMPENSATION_STARTED is reached; it is
    asked when one of the events ``watched`` is written. ``timed_out`` and ``cancel_requested`` are the events that are
    emitted when the deadline passes, and when somebody asks for the saga to be undone; after ``too_late`` nobody may.
    """

    def __init__(
        self,
        name: str,
        *,
        timed_out: EventType,
        cancel_requested: EventType,
        too_late: EventType,
    ) -> None:
        self.name = name
        self.timed_out = timed_out
        self.cancel_requested = cancel_requested
        self.too_late = too_late
        self._milestone: Callable[[History], str | None] = lambda _: None
        self._watched: frozenset[EventType] = frozenset()
        registry.register(self)

    def on(self, *event_types: EventType, queue: str) -> Callable[[Reaction], Reaction]:
        """Have the function decide what its service does about these events, as the task ``<queue>.<function>``."""

        def declare(reaction: Reaction) -> Reaction:
            task_name = f"{queue}.{reaction.__name__}"

            @app.task(name=task_name, bind=True, max_retries=None)  # the log counts the attempts
            def react(self_: "Task[Any, Any]", *, saga_id: str, event_id: str) -> Reply:
                return ReactionRun(self, self_, reaction, saga_id, event_id).run()

            subscribe(event_types, task_name, scope=self.name)
            return reaction

        return declare

    def milestone(
        self, *watched: EventType
    ) -> Callable[[Callable[[History], str | None]], Callable[[History], str | None]]:
        """Have the function say which state people should read, whenever one of these events is written."""

        def declare(function: Callable[[History], str | None]) -> Callable[[History], str | None]:
            self._milestone, self._watched = function, frozenset(watched)
            return function

        return declare

    def start(
        self, session: Session, create: Command, aggregate_id: str, payload: Mapping[str, Any], state: str
    ) -> SagaInstance:
        """Write a new saga in the caller's transaction and run ``create``, the action whose event opens it, in it too.

        The saga starts in ``state``; subscribers are told of the event after the commit.
        """
        here = runtime.current()
        now = here.now()
        saga = SagaInstance(
            id=new_id(), saga_type=self.name, aggregate_id=aggregate_id, steps=[], payload=dict(payload)
        )
        transitions.begin(saga, now, here.settings.order_timeout_seconds)
        saga.status = SagaStatus.RUNNING
        transitions.reach(saga, state, now)
        session.add(saga)
        row = barrier.enter(session, saga.id, create.short_name, Operation.ACTION, now)
        self.finish(
            session,
            saga.id,
            aggregate_id,
            row,
            StepStatus.COMPLETED,
            invoke(create, session, saga.payload, None),
            None,
            now,
        )
        return saga

    def finish(
        self,
        session: Session,
        saga_id: str,
        aggregate_id: str,
        row: SagaStep,
        status: StepStatus,
        event: Event | None,
        task_id: str | None,
        started_at: datetime,
    ) -> None:
        """Log the end of an operation together with the event it makes true."""
        finish(row, status, task_id, started_at, runtime.current().now())
        if event:
            row.event_id = self.emit(session, saga_id, aggregate_id, event).id
            row.result = dict(event.payload)

    def emit(self, session: Session, saga_id: str, aggregate_id: str, event: Event) -> StoredEvent:
        """Write an event, bring the projection up to date, and tell the reactions after the commit."""
        stored = emit(session, aggregate_id, event, saga_id=saga_id, scope=self.name)
        self._project(session, saga_id, stored)
        return stored

    def _project(self, session: Session, saga_id: str, stored: StoredEvent) -> None:
        if stored.event_type not in self._watched:
            return
        saga = session.get_one(SagaInstance, saga_id, with_for_update=True)
        # writers of one order's events wait for each other at the sequence, so this read misses none of them
        state = self._milestone(history(session, stored.aggregate_id))
        if state is None or state == saga.state or saga.state in {COMPLETED, FAILED}:
            return
        match state:
            case "COMPLETED":
                transitions.complete(saga, stored.timestamp)
            case "FAILED":
                transitions.compensated(saga, stored.timestamp)
            case _:
                transitions.turn_back(
                    saga, stored.timestamp, f"{stored.event_type}: {stored.payload.get('reason', 'failed')}"
                )

    def drive(self, session: Session, saga: SagaInstance) -> None:
        """Send the events of an unsettled saga again: every reaction is safe against that."""
        latest = history(session, saga.aggregate_id).events[-1]
        here = runtime.current()
        quiet_since = latest.timestamp + timedelta(seconds=here.settings.stall_seconds)
        if quiet_since > here.now():
            # it has made progress, of which its row does not tell
            saga.wake_at, saga.redrives = quiet_since, 0
            return
        self._say_all_again(session, saga)

    def _say_all_again(self, session: Session, saga: SagaInstance) -> None:
        for event in history(session, saga.aggregate_id).events:
            self.say_again(session, saga.id, event)

    def say_again(self, session: Session, saga_id: str, event: StoredEvent) -> None:
        """Tell the reactions to an event of it again, after the commit."""
        told, event_id = subscribers(event.event_type, self.name), event.id
        after_commit(session, lambda: tell(told, event_id, saga_id))

    def time_out(self, session: Session, saga: SagaInstance) -> None:
        """Say once that the deadline has passed; whoever owns the point of no return decides what that means."""
        saga.deadline_at = None
        self.emit(
            session, saga.id, saga.aggregate_id, Event(self.timed_out, {"reason": "not settled before its deadline"})
        )

    def cancel(self, session: Session, saga: SagaInstance) -> None:
        """Say that somebody wants it undone. Raises Conflict once it is past the point of no return."""
        if saga.status in {SagaStatus.COMPENSATING, SagaStatus.COMPENSATED}:
            return
        if saga.status == SagaStatus.STUCK and saga.state == COMPENSATION_STARTED:
            raise Conflict("it is being undone already, and stuck: resume it", status=saga.status)
        if history(session, saga.aggregate_id).has_any(self.too_late):
            raise Conflict("too late to cancel: it is past the point of no return", status=saga.status)
        if not history(session, saga.aggregate_id).has_any(self.cancel_requested):
            self.emit(
                session, saga.id, saga.aggregate_id, Event(self.cancel_requested, {"reason": "cancelled on request"})
            )

    def resume(self, session: Session, saga: SagaInstance) -> None:
        """Have what was given up tried again, and every event of the saga said again."""
        if saga.status == SagaStatus.STUCK:
            transitions.unstick(saga, runtime.current().now(), None)
            barrier.reopen(session, saga.id, Operation.COMPENSATION)
        self._say_all_again(session, saga)


class ReactionRun:
    """One delivery of the message "this event happened" to one reaction."""

    def __init__(
        self, choreography: Choreography, task: "Task[Any, Any]", reaction: Reaction, saga_id: str, event_id: str
    ) -> None:
        self.here = runtime.current()
        self.choreography = choreography
        self.task = task
        self.reaction = reaction
        self.saga_id = saga_id
        self.event_id = event_id
        self.started_at = self.here.now()

    def run(self) -> Reply:
        """Look at what has happened, decide, and do it; returns the reply of what was done.

        Raises Celery's Retry when it has to be tried again.
        """
        with retried_on_database_fault(self.task):
            with self.here.database.reading() as session:
                known = is_uuid(self.event_id) and is_uuid(self.saga_id)
                event = session.get(StoredEvent, self.event_id) if known else None
                saga = session.get(SagaInstance, self.saga_id) if known else None
                if event is None or saga is None or saga.aggregate_id != event.aggregate_id:
                    logger.warning("message for no known event, dropped", extra={"saga_id": self.saga_id})
                    return self._reply(self.task.name, False, "no such event")
                past = history(session, event.aggregate_id)
            self.aggregate_id = event.aggregate_id
            self.deadline = saga.deadline_at
            # the events speak; the payload adds only what is no business fact, such as the faults to simulate
            self.data = {**saga.payload, **past.data}
            match self.reaction(past):
                case Act(command):
                    return self._act(command)
                case Undo() as undo:
                    return self._undo(undo)
                case Close(action, reason):
                    return self._close(action, reason)
                case None:
                    return self._reply(self.task.name, True, None)

    def _act(self, command: Command) -> Reply:
        attempt = self._attempt(command.short_name, Operation.ACTION)
        try:
            answer = self._call(command, command.short_name, Operation.ACTION, attempt)
            with self.here.database.transaction() as session:
                row = self._enter(session, command.short_name, Operation.ACTION)
                if row.status not in barrier.OPEN:
                    return self._say_again(session, row)
                self._finish(session, row, StepStatus.COMPLETED, invoke(command, session, self.data, answer))
            return reply_of(row)
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            return self._act_failed(command, error)

    def _act_failed(self, command: Command, error: Exception) -> Reply:
        rejected = isinstance(error, StepRejected)
        with self.here.database.transaction() as session:
            row = self._enter(session, command.short_name, Operation.ACTION)
            if row.status not in barrier.OPEN:
                return self._say_again(session, row)
            wait = self._note_failure(row, error, command.retry or ONCE, rejected)
            # nobody may say that it failed before what an unanswered call may have done is voided
            unknown = wait is None and command.void is not None and not rejected
            if unknown:
                row.status = StepStatus.CLOSING
            elif wait is None and command.refused:
                self._refuse(session, command, row)
            elif wait is None:
                # past the point of no return there is no way back: it waits, open, for a person to resume it
                row.status = StepStatus.RETRYING
                self._stick(session, row)
        if wait is not None:
            retry_later(self.task, row, error, wait)
        logger.error(f"Step {row.step} failed for saga {self.saga_id}", extra=log_context(row))
        return self._close(command, describe(error)) if unknown else reply_of(row)

    def _close(self, action: Command, reason: str) -> Reply:
        with self.here.database.transaction() as session:
            row = self._enter(session, action.short_name, Operation.ACTION)
            if row.status not in barrier.OPEN | {StepStatus.CLOSING}:
                return self._say_again(session, row)
            row.status = StepStatus.CLOSING
            row.error = row.error or reason
        if action.void:
            try:
                action.void(action.message(self.data), gateway_key(self.saga_id, action.short_name))
            except Exception as error:
                self._undoing_failed(action.short_name, Operation.ACTION, UNDO, error)
        with self.here.database.transaction() as session:
            row = self._enter(session, action.short_name, Operation.ACTION)
            if row.status != StepStatus.CLOSING:
                return self._say_again(session, row)
            row.status = StepStatus.FAILED
            row.finished_at = self.here.now()
            row.task_id = self.task.request.id
            self._refuse(session, action, row)
        return reply_of(row)

    def _undo(self, undo: Undo) -> Reply:
        step, compensation = undo.action.short_name, undo.compensation
        attempt = self._attempt(step, Operation.COMPENSATION)
        try:
            if compensation.call:
                # shut before the gateway is asked, or a call under way could be recorded as done after its voiding
                with self.here.database.transaction() as session:
                    barrier.close_door(session, self.saga_id, step, self.started_at, None)
            answer = self._call(compensation, step, Operation.COMPENSATION, attempt)
            with self.here.database.transaction() as session:
                self._lock(session)
                action = barrier.close_door(session, self.saga_id, step, self.started_at, None)
                row = self._enter(session, step, Operation.COMPENSATION)
                if row.status not in barrier.OPEN:
                    return self._say_again(session, row)
                done = action.status == StepStatus.COMPLETED or compensation.call is not None
                if done or compensation.always:
                    event = invoke(compensation, session, self.data, answer)
                else:
                    event = Event(undo.otherwise) if undo.otherwise else None
                self._finish(session, row, StepStatus.COMPLETED if done else StepStatus.SKIPPED, event)
            return reply_of(row)
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            self._undoing_failed(step, Operation.COMPENSATION, UNDO, error)

    def _undoing_failed(self, step: str, operation: Operation, policy: RetryPolicy, error: Exception) -> NoReturn:
        """Log that an undoing failed and have it tried again; out of retries the saga is stuck, for people to see."""
        with self.here.database.transaction() as session:
            row = self._enter(session, step, operation)
            wait = self._note_failure(row, error, policy, False)
            if operation is Operation.ACTION:
                row.status = StepStatus.CLOSING  # its door stays shut, whatever happens to the voiding
            if wait is None:
                self._stick(session, row)
        if wait is not None:
            retry_later(self.task, row, error, wait)
        raise StepFailed(reply_of(row)) from error

    def _stick(self, session: Session, row: SagaStep) -> None:
        saga = session.get_one(SagaInstance, self.saga_id, with_for_update=True)
        transitions.stick(saga, self.here.now(), f"{self.task.name}: {row.error}")

    def _attempt(self, step: str, operation: Operation) -> int:
        with self.here.database.reading() as session:
            row = barrier.peek(session, self.saga_id, step, operation)
        return row.attempts + 1 if row else 1

    def _call(self, command: Command, step: str, operation: Operation, attempt: int) -> Any:
        return call_outside(command, operation, step, self.saga_id, self.data, attempt, self.deadline)

    def _lock(self, session: Session) -> None:
        # nothing is decided from this row; but its projection may be written at the end of the transaction, and locks
        # are taken in one order everywhere (saga, order, stock), so that nothing waits for each other
        session.get_one(SagaInstance, self.saga_id, with_for_update=True)

    def _enter(self, session: Session, step: str, operation: Operation) -> SagaStep:
        self._lock(session)
        return barrier.enter(session, self.saga_id, step, operation, self.here.now())

    def _finish(self, session: Session, row: SagaStep, status: StepStatus, event: Event | None) -> None:
        self.choreography.finish(
            session, self.saga_id, self.aggregate_id, row, status, event, self.task.request.id, self.started_at
        )
        logger.info("step completed", extra=log_context(row))

    def _note_failure(self, row: SagaStep, error: Exception, policy: RetryPolicy, rejected: bool) -> float | None:
        return note_failure(row, error, policy, rejected, self.task.request.id, self.started_at, self.here.now())

    def _refuse(self, session: Session, command: Command, row: SagaStep) -> None:
        event = refuse(command, session, self.data, row.error)
        row.event_id = self.choreography.emit(session, self.saga_id, self.aggregate_id, event).id

    def _say_again(self, session: Session, row: SagaStep) -> Reply:
        """Answer a repeated message: what was said when the work was done may not have arrived."""
        if row.event_id:
            self.choreography.say_again(session, self.saga_id, session.get_one(StoredEvent, row.event_id))
        return reply_of(row)

    def _reply(self, step: str, success: bool, error: str | None) -> Reply:
        return Reply(success=success, sagaId=self.saga_id, stepId=step, result=None, error=error)
