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
from durable_sagas.events import History, StoredEvent, delivery_of
from durable_sagas.messaging.publisher import service_of
from durable_sagas.reactions import Abort, Compensate, Decision, Execute
from workflows.read_side.queries import SagaView
from workflows.read_side.saga_history import HistoryEntry


class Outcome(StrEnum):
    """The result of delivering an event to a subscriber."""

    ACTED = "acted"
    """It executed an operation, or is retrying it: see the log entry."""
    AGAIN = "again"
    """Its operation had already been executed, for another event."""
    NOTHING = "nothing"
    """There was nothing to do, or another event is still to come."""
    AWAITED = "awaited"
    """It has an operation to execute, and the log has no attempt of it yet."""
    TOLD = "told"
    """It is a subscriber outside the saga, such as the notifications."""


@dataclass(frozen=True)
class Heard:
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
class Said:
    """An event, the service that published it, and its deliveries."""

    event: StoredEvent
    service: str
    heard: Sequence[Heard]
    no_return: bool
    """Whether this event is the saga's point of no return."""


def is_choreographed(saga_type: str) -> bool:
    """Return whether sagas of this type are choreographed."""
    return isinstance(sagas.saga_types.get(saga_type), Choreography)


def of(view: SagaView) -> list[Said]:
    """Return a saga's events with their deliveries, in the recorded order, in which a cause precedes its effects."""
    driver = sagas.saga_types.get(view.saga.saga_type)
    choreography = driver if isinstance(driver, Choreography) else None
    by_event = {logged.event_id: logged for logged in view.operations if logged.event_id}
    listening = _Listening(choreography, view)
    told: list[Said] = []
    for position, event in enumerate(view.events, start=1):
        logged = by_event.get(event.id)
        service = sagas.service_of(logged.step) if logged else None
        # an event of no operation (a deadline or a cancel request) is attributed to the service that opened the saga
        keeper = told[0].service if told else "?"
        heard = listening.to(event, History(view.events[:position]))
        no_return = choreography is not None and event.event_type == choreography.point_of_no_return
        told.append(Said(event, service or keeper, heard, no_return))
    return told


def under_way(view: SagaView, said: Sequence[Said]) -> list[HistoryEntry]:
    """Return the operations of an active saga that are due but not in the log yet."""
    if view.saga.status not in ACTIVE:
        return []
    awaited = [heard.logged for one in said for heard in one.heard if heard.outcome is Outcome.AWAITED and heard.logged]
    return list({logged.key: logged for logged in awaited}.values())


class _Listening:
    def __init__(self, choreography: Choreography | None, view: SagaView) -> None:
        self.choreography = choreography
        self.by_delivery: Mapping[str | None, HistoryEntry] = {
            logged.delivery_id or logged.task_id: logged for logged in view.operations
        }
        self.by_key = {logged.key: logged for logged in view.operations}
        self.all_that_happened = History(view.events)

    def to(self, event: StoredEvent, past: History) -> list[Heard]:
        heard = [
            Heard(name, delivery_of(event.id, name), Outcome.TOLD) for name in sagas.subscribers(event.event_type, None)
        ]
        if self.choreography is None:
            return heard
        reactions = sagas.subscribers(event.event_type, self.choreography.name)
        return [*(self._reaction(self.choreography, name, event, past) for name in reactions), *heard]

    def _reaction(self, choreography: Choreography, task_name: str, event: StoredEvent, past: History) -> Heard:
        task_id = delivery_of(event.id, task_name)
        meant = _meant(choreography.decision(task_name, past))
        mine = self.by_delivery.get(task_id)
        if mine:
            # later events may already have been recorded when the reaction was evaluated
            meant = meant or _meant(choreography.decision(task_name, self.all_that_happened))
            return Heard(task_name, mine.task_id or task_id, Outcome.ACTED, meant[2] if meant else mine.step, mine)
        if meant is None:
            return Heard(task_name, task_id, Outcome.NOTHING)
        step, operation, command = meant
        if done := self.by_key.get((step, operation)):
            return Heard(task_name, task_id, Outcome.AGAIN, command, done)
        # the log has no row before the first attempt has ended, so the operation may be running
        since = event.timestamp
        awaited = HistoryEntry(step, operation, StepStatus.RUNNING, started_at=since, last_started_at=since)
        return Heard(task_name, task_id, Outcome.AWAITED, command, awaited)


def _meant(decision: Decision) -> tuple[str, Operation, str] | None:
    match decision:
        case Execute(command):
            return command.short_name, Operation.ACTION, command.short_name
        case Abort(action):
            return action.short_name, Operation.ACTION, action.short_name
        case Compensate(action=action, compensation=compensation):
            return action.short_name, Operation.COMPENSATION, compensation.short_name
        case None:
            return None
