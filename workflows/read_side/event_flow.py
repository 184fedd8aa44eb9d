"""Derive the event flow of a choreographed saga: each event, its subscribers, and what each of them did.

The flow is not stored. Subscribers come from the live registry; what a reaction did is found in the saga log by its
delivery id, which is derived from event and subscriber; what it has yet to do is computed by evaluating the reaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.sagas import sagas
from durable_sagas.choreography import Choreography
from durable_sagas.definition import ACTIVE, Operation, StepStatus
from durable_sagas.events import delivery_of
from durable_sagas.history import History
from durable_sagas.messaging.publisher import service_of
from durable_sagas.models import StoredEvent
from durable_sagas.reactions import Abort, Compensate, Decision, Execute
from workflows.read_side.queries import SagaView
from workflows.read_side.saga_history import HistoryEntry


class Outcome(StrEnum):
    """The result of delivering an event to a subscriber."""

    ACTED = "acted"
    """It executed an operation, or is retrying it: see the log entry."""
    DUPLICATE = "duplicate"
    """Its operation had already been executed, for another event."""
    NOTHING = "nothing"
    """There was nothing to do, or another event is still to come."""
    PENDING = "pending"
    """It has an operation to execute, and the log has no attempt of it yet."""
    NOTIFIED = "notified"
    """It is a subscriber outside the saga, such as the notifications."""


@dataclass(frozen=True)
class EventDelivery:
    """The delivery of one event to one subscriber.

    ``command`` is what the subscriber executed or is to execute, ``logged`` the log entry of that. ``task_id`` is the
    task that executed it, or else the first delivery: a redelivery has an id of its own.
    """

    task_name: str
    task_id: str
    outcome: Outcome
    command: str | None = None
    logged: HistoryEntry | None = None

    @property
    def service(self) -> str:
        """The subscriber's service."""
        return service_of(self.task_name)


@dataclass(frozen=True)
class PublishedEvent:
    """An event, the service that published it, and its deliveries."""

    event: StoredEvent
    service: str
    deliveries: Sequence[EventDelivery]
    is_pivot: bool
    """Whether this event is the saga's point of no return."""


def is_choreographed(saga_type: str) -> bool:
    """Return whether sagas of this type are choreographed."""
    return isinstance(sagas.saga_types.get(saga_type), Choreography)


def of(view: SagaView) -> list[PublishedEvent]:
    """Return a saga's events with their deliveries, in the recorded order, in which a cause precedes its effects."""
    driver = sagas.saga_types.get(view.saga.saga_type)
    choreography = driver if isinstance(driver, Choreography) else None
    by_event = {logged.event_id: logged for logged in view.operations if logged.event_id}
    finder = _DeliveryFinder(choreography, view)
    published: list[PublishedEvent] = []
    for position, event in enumerate(view.events, start=1):
        logged = by_event.get(event.id)
        service = sagas.service_of(logged.step) if logged else None
        # an event of no operation (a deadline or a cancel request) is attributed to the service that opened the saga
        opener = published[0].service if published else "?"
        deliveries = finder.deliveries_of(event, History(view.events[:position]))
        is_pivot = choreography is not None and event.event_type == choreography.point_of_no_return
        published.append(PublishedEvent(event, service or opener, deliveries, is_pivot))
    return published


def pending_operations(view: SagaView, published: Sequence[PublishedEvent]) -> list[HistoryEntry]:
    """Return the operations of an active saga that are due but not in the log yet."""
    if view.saga.status not in ACTIVE:
        return []
    deliveries = [delivery for event in published for delivery in event.deliveries]
    pending = [one.logged for one in deliveries if one.outcome is Outcome.PENDING and one.logged]
    return list({logged.key: logged for logged in pending}.values())


class _DeliveryFinder:
    def __init__(self, choreography: Choreography | None, view: SagaView) -> None:
        self.choreography = choreography
        self.by_delivery: Mapping[str | None, HistoryEntry] = {
            logged.delivery_id or logged.task_id: logged for logged in view.operations
        }
        self.by_operation = {logged.key: logged for logged in view.operations}
        self.history = History(view.events)

    def deliveries_of(self, event: StoredEvent, past: History) -> list[EventDelivery]:
        notified = [
            EventDelivery(name, delivery_of(event.id, name), Outcome.NOTIFIED)
            for name in sagas.subscribers(event.event_type, None)
        ]
        if self.choreography is None:
            return notified
        reactions = sagas.subscribers(event.event_type, self.choreography.name)
        return [*(self._reaction(self.choreography, name, event, past) for name in reactions), *notified]

    def _reaction(self, choreography: Choreography, task_name: str, event: StoredEvent, past: History) -> EventDelivery:
        task_id = delivery_of(event.id, task_name)
        target = _command_of(choreography.decision(task_name, past))
        entry = self.by_delivery.get(task_id)
        if entry:
            # later events may already have been recorded when the reaction was evaluated
            target = target or _command_of(choreography.decision(task_name, self.history))
            command = target[2] if target else entry.step
            return EventDelivery(task_name, entry.task_id or task_id, Outcome.ACTED, command, entry)
        if target is None:
            return EventDelivery(task_name, task_id, Outcome.NOTHING)
        step, operation, command = target
        if done := self.by_operation.get((step, operation)):
            return EventDelivery(task_name, task_id, Outcome.DUPLICATE, command, done)
        # the log has no row before the first attempt has ended, so the operation may be running
        since = event.timestamp
        pending = HistoryEntry(step, operation, StepStatus.RUNNING, started_at=since, last_started_at=since)
        return EventDelivery(task_name, task_id, Outcome.PENDING, command, pending)


def _command_of(decision: Decision) -> tuple[str, Operation, str] | None:
    match decision:
        case Execute(command):
            return command.short_name, Operation.ACTION, command.short_name
        case Abort(action):
            return action.short_name, Operation.ACTION, action.short_name
        case Compensate(action=action, compensation=compensation):
            return action.short_name, Operation.COMPENSATION, compensation.short_name
        case None:
            return None
