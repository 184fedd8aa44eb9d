"""What the services of a choreographed saga said to each other: each event, who was told of it, and what they did.

Nothing of this is written down anywhere as such. Who is told stands in the live registry of subscriptions; what they
did is found in the log by the delivery, which is made of event and subscriber; and what a reaction has not done yet is
asked of the reaction itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.celery import queue_of
from app.events import History, StoredEvent, delivery_of, subscribers
from app.saga import commands, registry
from app.saga.choreography import Choreography
from app.saga.decisions import Act, Close, Decision, Undo
from app.saga.definition import ACTIVE, Operation, StepStatus
from app.saga.timeline import HistoryEntry
from workflows.read_side.queries import SagaView


class Outcome(StrEnum):
    """What came of telling a service of an event."""

    ACTED = "acted"
    """It did something, or is at it: see the log."""
    AGAIN = "again"
    """What it would do had been done before, for another event."""
    NOTHING = "nothing"
    """There was nothing to do, or another event is still to come."""
    AWAITED = "awaited"
    """It has something to do and has not done it yet."""
    TOLD = "told"
    """It only listens; what it does is not part of the saga."""


@dataclass(frozen=True)
class Heard:
    """One service that was told of one event; ``command`` is what it did, or is to do, and ``logged`` how that went.

    ``task_id`` is the task that acted, or else the first that told it: what was sent again has an id of its own.
    """

    task_name: str
    task_id: str
    outcome: Outcome
    command: str | None = None
    logged: HistoryEntry | None = None

    @property
    def service(self) -> str:
        """The service that was told."""
        return queue_of(self.task_name)


@dataclass(frozen=True)
class Said:
    """One event: which service said it, and who was told."""

    event: StoredEvent
    service: str
    heard: Sequence[Heard]
    no_return: bool
    """Whether the saga can no longer be undone from here on."""


def is_choreographed(saga_type: str) -> bool:
    """Tell whether sagas of this type have no conductor."""
    return isinstance(registry.named(saga_type), Choreography)


def of(view: SagaView) -> list[Said]:
    """Return what was said in a saga, in the order in which it was recorded, which no effect precedes its cause in."""
    driver = registry.named(view.saga.saga_type)
    choreography = driver if isinstance(driver, Choreography) else None
    by_event = {logged.event_id: logged for logged in view.operations if logged.event_id}
    listening = _Listening(choreography, view)
    told: list[Said] = []
    for position, event in enumerate(view.events, start=1):
        logged = by_event.get(event.id)
        service = commands.service_of(logged.step) if logged else None
        # what no operation said comes from whoever keeps the saga: deadlines, and what people ask for
        keeper = told[0].service if told else "?"
        heard = listening.to(event, History(view.events[:position]))
        no_return = choreography is not None and event.event_type == choreography.too_late
        told.append(Said(event, service or keeper, heard, no_return))
    return told


def under_way(view: SagaView, said: Sequence[Said]) -> list[HistoryEntry]:
    """Return what services have still to do, or are at, in a saga that moves: the log does not hold it yet."""
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
        heard = [Heard(name, delivery_of(event.id, name), Outcome.TOLD) for name in subscribers(event.event_type, None)]
        if self.choreography is None:
            return heard
        reactions = subscribers(event.event_type, self.choreography.name)
        return [*(self._reaction(self.choreography, name, event, past) for name in reactions), *heard]

    def _reaction(self, choreography: Choreography, task_name: str, event: StoredEvent, past: History) -> Heard:
        task_id = delivery_of(event.id, task_name)
        meant = _meant(choreography.decision(task_name, past))
        mine = self.by_delivery.get(task_id)
        if mine:
            # when it acted more may have happened already than this event and those before it
            meant = meant or _meant(choreography.decision(task_name, self.all_that_happened))
            return Heard(task_name, mine.task_id or task_id, Outcome.ACTED, meant[2] if meant else mine.step, mine)
        if meant is None:
            return Heard(task_name, task_id, Outcome.NOTHING)
        step, operation, command = meant
        if done := self.by_key.get((step, operation)):
            return Heard(task_name, task_id, Outcome.AGAIN, command, done)
        # there is nothing in the log before its first attempt has ended; for all we know it is under way
        since = event.timestamp
        awaited = HistoryEntry(step, operation, StepStatus.RUNNING, started_at=since, last_started_at=since)
        return Heard(task_name, task_id, Outcome.AWAITED, command, awaited)


def _meant(decision: Decision) -> tuple[str, Operation, str] | None:
    match decision:
        case Act(command):
            return command.short_name, Operation.ACTION, command.short_name
        case Close(action):
            return action.short_name, Operation.ACTION, action.short_name
        case Undo(action=action, compensation=compensation):
            return action.short_name, Operation.COMPENSATION, compensation.short_name
        case None:
            return None
