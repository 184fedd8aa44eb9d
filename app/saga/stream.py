"""The events of one choreography: written, told to its reactions, and projected on the saga's row for people."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy.orm import Session

from app import runtime
from app.database import after_commit
from app.events import History, StoredEvent, emit, history, subscribers, tell
from app.messages import Event, EventType
from app.saga import transitions
from app.saga.attempts import finish
from app.saga.definition import COMPLETED, FAILED, StepStatus
from app.saga.models import SagaInstance, SagaStep

Milestone = Callable[[History], str | None]


class Stream:
    """Writes a choreography's events. ``milestone`` says where they bring a saga; see Choreography.milestone."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.milestone: Milestone = lambda _: None
        self.watched: frozenset[EventType] = frozenset()

    def emit(self, session: Session, saga_id: str, aggregate_id: str, event: Event) -> StoredEvent:
        """Write an event, bring the projection up to date, and tell the reactions after the commit."""
        stored = emit(session, aggregate_id, event, saga_id=saga_id, scope=self.name)
        self._project(session, saga_id, stored)
        return stored

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

    def say_again(self, session: Session, saga_id: str, event: StoredEvent) -> None:
        """Tell the reactions to an event of it again, after the commit."""
        told, event_id = subscribers(event.event_type, self.name), event.id
        after_commit(session, lambda: tell(told, event_id, saga_id))

    def _project(self, session: Session, saga_id: str, stored: StoredEvent) -> None:
        if stored.event_type not in self.watched:
            return
        saga = session.get_one(SagaInstance, saga_id, with_for_update=True)
        # writers of one order's events wait for each other at the sequence, so this read misses none of them
        state = self.milestone(history(session, stored.aggregate_id))
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
