"""Retention: what ended long ago is taken out of every service's tables, a small batch at a time, while the shop runs.

A batch is one transaction, so at any moment an order is there as a whole or not at all, and the audit holds. Locks are
taken in the order in which everybody takes them: sagas, orders, stock by book. Each service says itself what of its
tables goes, and what has to be done before that (``RETENTION``).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from app import events, gateways, runtime
from app.ids import first_id_of
from app.retention import Of, RetentionRule
from app.saga import models
from app.saga.definition import TERMINAL
from app.saga.models import SagaInstance
from tasks import inventory, notifications, orders, payments, shipping
from workflows.operations.archive import Archive
from workflows.read_side.saga_search import FIRST, STRETCH, IndexRange, Wanted, stretches

MIN_AGE = timedelta(hours=1)
"""What ended later is never pruned: its last messages may still be on their way, and people may be looking at it."""

BATCH = 200
MIN_PAUSE_SECONDS = 0.01

RETENTION: tuple[RetentionRule, ...] = (
    *orders.RETENTION,
    *payments.RETENTION,
    *shipping.RETENTION,
    *notifications.RETENTION,
    *events.RETENTION,
    *gateways.RETENTION,
    *models.RETENTION,
    *inventory.RETENTION,  # last: it locks books, which orders of this moment want too
)
"""Everything that goes with a saga, in the order in which it goes."""


@dataclass(frozen=True)
class Batch:
    """What one transaction took out."""

    sagas: int
    rows: int


@dataclass(frozen=True)
class _Old:
    """A saga that may go, and the order that it is about."""

    saga_id: str
    order_id: str
    head: Mapping[str, Any]


@dataclass(frozen=True)
class _Found:
    """Some of a stretch's sagas, and where to go on looking; ``last`` is None at its end."""

    old: Sequence[_Old]
    last: str | None


def prune(before: datetime, *, archive: Archive | None = None, batch: int = BATCH) -> Iterator[Batch]:
    """Take out every order whose saga ended before a moment; yields after each batch has been committed.

    Between batches as much time is left to the shop as the last one took. It may be broken off at any time, and run
    again; several may run at once. An order whose customer has not been told yet is left for another time.
    """
    for stretch in _ended():
        last: str | None = FIRST
        while last is not None:
            began = time.monotonic()
            with runtime.current().database.transaction() as session:
                found = _find(session, stretch, last, before, batch, lock=True)
                taken = _take_out(session, found.old, archive) if found.old else None
            last = found.last
            if taken:
                yield taken
                runtime.current().stopping.wait(max(MIN_PAUSE_SECONDS, time.monotonic() - began))


def count(before: datetime) -> int:
    """Return how many sagas ``prune`` would take out."""
    counted = 0
    for stretch in _ended():
        last: str | None = FIRST
        while last is not None:
            with runtime.current().database.reading() as session:
                found = _find(session, stretch, last, before, 10 * BATCH, lock=False)
            counted += len(found.old)
            last = found.last
    return counted


def _ended() -> Sequence[IndexRange]:
    with runtime.current().database.reading() as session:
        return [stretch for status in sorted(TERMINAL) for stretch in stretches(session, Wanted(status))]


def _find(session: Session, stretch: IndexRange, after: str, before: datetime, limit: int, *, lock: bool) -> _Found:
    # what ended before a moment was made before it: ids grow with time, so what is newer is not even looked at.
    # Compared and sorted as finding does, by all of the index that has these rows next to each other
    saga = SagaInstance
    query = (
        select(saga.id, saga.aggregate_id, saga.saga_type, saga.status, saga.created_at, saga.updated_at)
        .where(tuple_(*STRETCH) > (*stretch, after), tuple_(*STRETCH) < (*stretch, first_id_of(before)))
        .where(saga.updated_at < before)
        .order_by(*STRETCH)
        .limit(limit)
    )
    rows = session.execute(query.with_for_update(skip_locked=True) if lock else query).all()
    awaited = events.awaited(session, [row.aggregate_id for row in rows])
    old = [
        _Old(
            row.id,
            row.aggregate_id,
            {
                "saga_id": row.id,
                "order_id": row.aggregate_id,
                "saga_type": row.saga_type,
                "status": row.status,
                "created_at": row.created_at.isoformat(),
                "ended_at": row.updated_at.isoformat(),
            },
        )
        for row in rows
        if row.aggregate_id not in awaited
    ]
    return _Found(old, rows[-1].id if rows else None)


def _take_out(session: Session, old: Sequence[_Old], archive: Archive | None) -> Batch:
    owners = {Of.SAGA: [saga.saga_id for saga in old], Of.AGGREGATE: [saga.order_id for saga in old]}
    if archive:
        # on the disk before the commit: a crash between the two leaves an order in both, and never in neither
        archive.add(_records(session, old, owners))
    return Batch(len(old), sum(part.delete(session, owners[part.of]) for part in RETENTION))


def _records(session: Session, old: Sequence[_Old], owners: Mapping[Of, Sequence[str]]) -> Iterator[dict[str, Any]]:
    exported = [(part, part.export(session, owners[part.of])) for part in RETENTION]
    archived_at = runtime.current().now().isoformat()
    for saga in old:
        owner = {Of.SAGA: saga.saga_id, Of.AGGREGATE: saga.order_id}
        rows = {part.table.name: found.get(owner[part.of], []) for part, found in exported}
        yield {**saga.head, "archived_at": archived_at, "rows": rows}
