"""Choreography: services react to each other's events, without a coordinator."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from app import runtime
from app.celery import app
from app.errors import Conflict, StepFailed
from app.events import History, history, subscribe
from app.ids import new_id
from app.messages import Event, EventType, Reply
from app.messaging import batching
from app.observability import tracing
from app.saga import barrier, registry, state_machine
from app.saga.attempts import CeleryTask, finish, invoke
from app.saga.decisions import Decision, Reaction
from app.saga.definition import COMPENSATION_STARTED, Command, Operation, SagaStatus, StepStatus
from app.saga.first_reactions import react_together
from app.saga.manual_completion import (
    ManualCompletion,
    PendingCompensation,
    choose,
    pending_compensation,
    record_completion,
    recording,
)
from app.saga.models import SagaInstance
from app.saga.reactions import ReactionRun
from app.saga.stream import Projection, Stream


class Choreography:
    """The reactions of the services to the events of one type of saga. Implements ``registry.Driver``.

    ``projection`` derives from the events which of the states COMPLETED, FAILED, COMPENSATION_STARTED is reached; it is
    called when one of the ``events`` is written. ``timed_out`` and ``cancel_requested`` are the events emitted
    when the deadline passes, and when a cancellation is requested; after ``point_of_no_return`` no request is accepted.
    """

    def __init__(
        self,
        name: str,
        *,
        timed_out: EventType,
        cancel_requested: EventType,
        point_of_no_return: EventType,
    ) -> None:
        self.name = name
        self.timed_out = timed_out
        self.cancel_requested = cancel_requested
        self.point_of_no_return = point_of_no_return
        self._stream = Stream(name)
        self._reactions: dict[str, tuple[frozenset[EventType], Reaction]] = {}
        registry.register(self)

    def on(self, *event_types: EventType, queue: str) -> Callable[[Reaction], Reaction]:
        """Register a reaction to these event types, as the task ``<queue>.<function>``."""

        def declare(reaction: Reaction) -> Reaction:
            task_name = f"{queue}.{reaction.__name__}"

            # the log counts the attempts, not Celery; a step that failed for good is no error of the worker
            @app.task(name=task_name, bind=True, max_retries=None, throws=(StepFailed,))
            def react(task: CeleryTask, *, saga_id: str, event_id: str) -> Reply:
                return (
                    batching.outcome_of(task.request.id)
                    or ReactionRun(self._stream, task, reaction, saga_id, event_id).run()
                )

            batching.register(task_name, partial(react_together, self._stream, task_name, reaction))
            subscribe(event_types, task_name, scope=self.name)
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
            self._stream.projection, self._stream.projected = function, frozenset(events)
            return function

        return declare

    def start(
        self, session: Session, create: Command, aggregate_id: str, payload: Mapping[str, Any], state: str
    ) -> SagaInstance:
        """Write a new saga in the caller's transaction, and run ``create``, the action whose event starts it.

        The saga starts in ``state``; subscribers are notified of the event after the commit.
        """
        here = runtime.current()
        now = here.now()
        saga = SagaInstance(
            id=new_id(), saga_type=self.name, aggregate_id=aggregate_id, steps=[], payload=dict(payload)
        )
        session.add(saga)
        with tracing.beginning(session, saga):
            state_machine.begin(saga, now, here.settings.order_timeout_seconds)
            saga.status = SagaStatus.RUNNING
            state_machine.enter_state(saga, state, now)
            row = barrier.take(saga.id, create.short_name, Operation.ACTION, now)
            session.add(row)
            finish(saga, row, StepStatus.COMPLETED, None, now, now)
            event = invoke(create, session, saga.payload, None)
            if event:
                self._stream.answer(session, saga, row, event)
        return saga

    def can_drive(self, saga: SagaInstance) -> bool:  # noqa: ARG002  (a driver's)
        """Return True: a process of any version can republish the events."""
        return True

    def drive(self, session: Session, saga: SagaInstance) -> None:
        """Republish the events of an unfinished saga; every reaction is idempotent."""
        past = history(session, saga.aggregate_id)
        here = runtime.current()
        saga.unsupported_since = None
        quiet_since = past.events[-1].timestamp + timedelta(seconds=here.settings.stall_seconds)
        if saga.status == SagaStatus.RUNNING and saga.deadline_at is None and not past.has(self.timed_out):
            state_machine.restart_deadline(saga, here.now(), here.settings.order_timeout_seconds)
        elif quiet_since > here.now():
            # it has made progress that its row does not show
            saga.redrives = 0
            saga.wake_at = min(quiet_since, saga.deadline_at) if saga.deadline_at else quiet_since
            return
        # alternately: the worker that repeats an event, or this process, may be of a version that lacks a subscriber
        if saga.redrives % 2:
            self._republish(session, saga, past)
        else:
            self._stream.say_unfinished(session, saga.id, past.events)

    def _republish(self, session: Session, saga: SagaInstance, past: History) -> None:
        """Republish the first event and those that no reaction published; completed reactions republish the rest."""
        roots = {past.events[0].event_type, self.timed_out, self.cancel_requested}
        for event in past.events:
            if event.event_type in roots:
                self._stream.republish(session, saga.id, event)

    def time_out(self, session: Session, saga: SagaInstance) -> None:
        """Publish once that the deadline has passed; the service that owns the pivot decides what follows."""
        saga.deadline_at = None
        past = history(session, saga.aggregate_id)
        if past.has(self.timed_out):
            self._republish(session, saga, past)
        else:
            self._stream.emit(session, saga, Event(self.timed_out, {"reason": "not settled before its deadline"}))

    def cancel(self, session: Session, saga: SagaInstance) -> bool:
        """Publish that cancellation was requested. Return False if it was already, or the saga is being compensated.

        Raises Conflict past the point of no return.
        """
        if saga.status in {SagaStatus.COMPENSATING, SagaStatus.COMPENSATED}:
            return False
        if saga.status == SagaStatus.STUCK and saga.state == COMPENSATION_STARTED:
            raise Conflict("it is being undone already, and stuck: resume it", status=saga.status)
        past = history(session, saga.aggregate_id)
        if past.has(self.point_of_no_return):
            raise Conflict("too late to cancel: it is past the point of no return", status=saga.status)
        if past.has(self.cancel_requested):
            return False
        self._stream.emit(session, saga, Event(self.cancel_requested, {"reason": "cancelled on request"}))
        return True

    def resume(self, session: Session, saga: SagaInstance) -> None:
        """Retry the exhausted operations of a stuck saga, and republish the saga's events."""
        past = history(session, saga.aggregate_id)
        if saga.status == SagaStatus.STUCK:
            self._unstick(saga)
            barrier.reset_exhausted(session, saga.id)
        self._stream.say_unfinished(session, saga.id, past.events)

    def skip(self, session: Session, saga: SagaInstance, statement: ManualCompletion) -> None:
        """Record a compensation as completed manually, and publish the event that its service has not published."""
        past = history(session, saga.aggregate_id)
        undoings = self._undoings(session, saga, past)
        chosen = choose(saga, undoings, statement)
        self._unstick(saga)
        with recording(saga):
            event = chosen[0].record(session, {**saga.payload, **past.data})
        now = runtime.current().now()
        for undoing in chosen:
            record_completion(undoing.row, undoing.status, statement, now)
        if event:
            self._stream.answer(session, saga, chosen[0].row, event)
        for other in undoings:
            if other not in chosen:
                state_machine.mark_stuck(saga, now, f"{other.row.step}: {other.row.error}", other.row.step)

    def _unstick(self, saga: SagaInstance) -> None:
        here = runtime.current()
        state_machine.unstick(saga, here.now(), here.settings.order_timeout_seconds)
        saga.current_step = None

    def _undoings(self, session: Session, saga: SagaInstance, past: History) -> list[PendingCompensation]:
        decisions = [reaction(past) for types, reaction in self._reactions.values() if not past.types.isdisjoint(types)]
        undoings = [pending_compensation(row, decisions) for row in barrier.exhausted(session, saga.id)]
        return [undoing for undoing in undoings if undoing]
