"""The events of an aggregate, in order: what reactions decide by."""

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from durable_sagas.messages import EventType
from durable_sagas.models import OutboxEntry, StoredEvent


class History:
    """The events of one aggregate, in order: the input of reactions."""

    def __init__(self, events: Iterable[StoredEvent]) -> None:
        self.events = list(events)
        self.types = {event.event_type for event in self.events}

    def event(self, event_id: str | None) -> StoredEvent | None:
        """Return the event with this id, or None."""
        return next((event for event in self.events if event.id == event_id), None)

    def has(self, *event_types: EventType) -> bool:
        """Return whether there is an event of each of these types."""
        return self.types.issuperset(event_types)

    def has_any(self, *event_types: EventType) -> bool:
        """Return whether there is an event of at least one of these types."""
        return not self.types.isdisjoint(event_types)

    @cached_property
    def data(self) -> Mapping[str, Any]:
        """Return the merged payloads of the events; later values replace earlier ones."""
        return MappingProxyType({name: value for event in self.events for name, value in event.payload.items()})


def history(session: Session, aggregate_id: str) -> History:
    """Return an aggregate's events that are committed, or written in this transaction."""
    return histories(session, [aggregate_id])[aggregate_id]


def histories(session: Session, aggregate_ids: Collection[str]) -> dict[str, History]:
    """Return the events of each of these aggregates, as ``history`` does."""
    events: dict[str, list[StoredEvent]] = {aggregate_id: [] for aggregate_id in aggregate_ids}
    if events:
        query = select(StoredEvent).where(StoredEvent.aggregate_id.in_(aggregate_ids))
        for event in session.scalars(query.order_by(StoredEvent.aggregate_id, StoredEvent.sequence)):
            events[event.aggregate_id].append(event)
    return {aggregate_id: History(found) for aggregate_id, found in events.items()}


def with_pending_outbox(session: Session, aggregate_ids: Iterable[str]) -> set[str]:
    """Return those of these aggregates that have an unhandled outbox entry."""
    query = select(StoredEvent.aggregate_id).join(OutboxEntry, OutboxEntry.event_id == StoredEvent.id)
    return set(session.scalars(query.where(StoredEvent.aggregate_id.in_(list(aggregate_ids)))))
