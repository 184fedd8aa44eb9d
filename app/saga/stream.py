"""Write the events of a choreography, send them to its reactions, and project them on the saga's row."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy.orm import Session

from app.database import after_commit
from app.events import History, Said, StoredEvent, delivery_of, emit, emit_all, history, subscribers, tell
from app.messages import Event, EventType
from app.messaging.publisher import sender, sent_by
from app.saga import barrier, state_machine
from app.saga.definition import COMPENSATION_STARTED, COMPLETED, FAILED
from app.saga.models import SagaInstance, SagaStep
from app.saga.outage import suspend_deadline

Projection = Callable[[History], str | None]


@dataclass(frozen=True)
class Answer:
    """The event resulting from an operation of a locked saga, and the events before it."""

    saga: SagaInstance
    row: SagaStep
    event: Event
    past: History


class Stream:
    """Writes a choreography's events. ``projection`` derives the saga's state; see Choreography.projection."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.projection: Projection = lambda _: None
        self.projected: frozenset[EventType] = frozenset()

    def declares(self, event_type: EventType) -> bool:
        """Return whether this version of the code has a reaction to events of this type."""
        return bool(subscribers(event_type, self.name))

    def emit(self, session: Session, saga: SagaInstance, event: Event) -> StoredEvent:
        """Write an event of a locked saga, update the saga's row, and notify the reactions after the commit."""
        stored = emit(session, saga.aggregate_id, event, saga_id=saga.id)
        if event.type in self.projected:
            # writers of one saga's events serialize on its row, so this query misses none of them
            self._project(saga, stored, history(session, stored.aggregate_id))
        self._say(session, saga.id, stored)
        return stored

    def answer(self, session: Session, saga: SagaInstance, row: SagaStep, event: Event) -> None:
        """Write the event resulting from an operation, and keep its id on the operation's row for republishing."""
        row.event_id = self.emit(session, saga, event).id
        row.result = dict(event.payload)

    def answer_all(self, session: Session, answers: Sequence[Answer]) -> None:
        """Do what ``answer`` does for operations of several sagas whose earlier events are known."""
        stored = emit_all(
            session, [Said(one.saga.aggregate_id, one.saga.id, one.event, one.row.task_id) for one in answers]
        )
        for one, event in zip(answers, stored, strict=True):
            one.row.event_id = event.id
            one.row.result = dict(event.payload)
            with sent_by(one.row.task_id):
                if event.event_type in self.projected:
                    self._project(one.saga, event, History([*one.past.events, event]))
                self._say(session, one.saga.id, event)

    def republish(self, session: Session, saga_id: str, event: StoredEvent) -> None:
        """Send an event of a saga to its reactions again after the commit; safe to repeat."""
        self._say(session, saga_id, event, again=True)

    def say_unfinished(self, session: Session, saga_id: str, events: Iterable[StoredEvent]) -> None:
        """Send events of a saga again, after the commit, to the reactions whose operations have not ended.

        The event that an operation published when it ended is among the saga's events itself.
        """
        finished = barrier.finished_deliveries(barrier.logged(session, [saga_id])[saga_id])
        for event in events:
            self._say(session, saga_id, event, again=True, finished=finished)

    def _say(
        self,
        session: Session,
        saga_id: str,
        event: StoredEvent,
        *,
        again: bool = False,
        finished: Collection[str | None] = (),
    ) -> None:
        task_names = subscribers(event.event_type, self.name)
        if finished:
            task_names = [name for name in task_names if delivery_of(event.id, name) not in finished]
        send = partial(tell, task_names, event.id, saga_id, sender())
        after_commit(session, partial(send, on_undelivered=partial(suspend_deadline, saga_id), again=again))

    def _project(self, saga: SagaInstance, stored: StoredEvent, past: History) -> None:
        state = self.projection(past)
        if saga.state in {COMPLETED, FAILED, state}:
            return
        if state == COMPLETED:
            state_machine.complete(saga, stored.timestamp)
        elif state == FAILED:
            state_machine.complete_compensation(saga, stored.timestamp)
        elif state == COMPENSATION_STARTED:
            saga.current_step = None
            reason = f"{stored.event_type}: {stored.payload.get('reason', 'failed')}"
            state_machine.start_compensation(saga, stored.timestamp, reason)
