"""Prune orders that ended long ago from every service's tables, in small batches, while the shop runs.

A batch is one transaction, so at any moment an order exists completely or not at all, and the audit holds. Locks are
taken in the same order as everywhere: sagas, orders, stock by book. Each service declares which of its rows are
deleted, and what it does before that (``RETENTION``).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, select, tuple_
from sqlalchemy.orm import Session

from app import runtime
from durable_sagas import history
from durable_sagas.definition import TERMINAL
from durable_sagas.ids import first_id_of
from durable_sagas.models import OperatorAction, SagaInstance, SagaStep, StoredEvent
from tasks import gateways, inventory, notifications, orders, payments, shipping
from tasks.retention import Owner, RetentionRule
from workflows.operations.archive import Archive
from workflows.read_side.saga_search import FIRST, INDEX_COLUMNS, IndexRange, index_ranges

MIN_AGE = timedelta(hours=1)
"""The minimum age of a pruned order: late messages of a younger one may still arrive, and its page may be open."""

SagaRows = Sequence[Row[*tuple[Any, ...]]]
"""Rows of ``saga_instances``: those columns that the archive has."""

BATCH = 200
MIN_PAUSE_SECONDS = 0.01

RETENTION: tuple[RetentionRule, ...] = (
    *orders.RETENTION,
    *payments.RETENTION,
    *shipping.RETENTION,
    *notifications.RETENTION,
    RetentionRule(StoredEvent, "aggregate_id"),  # their outbox is empty by then
    *gateways.RETENTION,
    RetentionRule(SagaStep, "saga_id", Owner.SAGA),
    RetentionRule(OperatorAction, "saga_id", Owner.SAGA),
    RetentionRule(SagaInstance, "id", Owner.SAGA),
    *inventory.RETENTION,  # last: it locks books, for which new orders would otherwise have to wait longer
)
"""The rules for all rows that belong to a saga, in the order of deletion."""


@dataclass(frozen=True)
class Batch:
    """The numbers of sagas and rows that one transaction deleted."""

    sagas: int
    rows: int


def prune(before: datetime, *, archive: Archive | None = None, batch: int = BATCH) -> Iterator[Batch]:
    """Delete every order whose saga ended before ``before``; yield after each committed batch.

    Waits between batches for as long as the last one took. Can be interrupted at any time and run again; several can
    run at once. An order whose customer notification is still pending is skipped.
    """
    for index_range in _ended():
        last: str | None = FIRST
        while last is not None:
            started = time.monotonic()
            with runtime.current().database.transaction() as session:
                prunable, last = _find(session, index_range, last, before, batch, lock=True)
                deleted = _delete(session, prunable, archive) if prunable else None
            if deleted:
                yield deleted
                runtime.current().stopping.wait(max(MIN_PAUSE_SECONDS, time.monotonic() - started))


def count(before: datetime) -> int:
    """Return how many sagas ``prune`` would delete."""
    total = 0
    for index_range in _ended():
        last: str | None = FIRST
        while last is not None:
            with runtime.current().database.reading() as session:
                prunable, last = _find(session, index_range, last, before, 10 * BATCH, lock=False)
            total += len(prunable)
    return total


def _ended() -> Sequence[IndexRange]:
    with runtime.current().database.reading() as session:
        return index_ranges(session, sorted(TERMINAL))


def _find(
    session: Session, index_range: IndexRange, after: str, before: datetime, limit: int, *, lock: bool
) -> tuple[SagaRows, str | None]:
    """Return prunable sagas of an index range, and the id to continue after, None at the end of the range."""
    # A saga that ended before a moment was created before it, and ids are ordered by time, so newer ids are not read.
    # Compared and sorted by all columns of the index, as in saga_search.
    saga = SagaInstance
    columns = (saga.id, saga.aggregate_id, saga.saga_type, saga.status, saga.created_at, saga.updated_at)
    query = (
        select(*columns)
        .where(
            tuple_(*INDEX_COLUMNS) > (*index_range, after), tuple_(*INDEX_COLUMNS) < (*index_range, first_id_of(before))
        )
        .where(saga.updated_at < before)
        .order_by(*INDEX_COLUMNS)
        .limit(limit)
    )
    rows = session.execute(query.with_for_update(skip_locked=True) if lock else query).all()
    awaited = history.with_pending_outbox(session, [row.aggregate_id for row in rows])
    return [row for row in rows if row.aggregate_id not in awaited], rows[-1].id if rows else None


def _delete(session: Session, sagas: SagaRows, archive: Archive | None) -> Batch:
    owners = {Owner.SAGA: [saga.id for saga in sagas], Owner.AGGREGATE: [saga.aggregate_id for saga in sagas]}
    if archive:
        # synced to disk before the commit: a crash in between leaves an order in both places, never in neither
        archive.add(_records(session, sagas, owners))
    return Batch(len(sagas), sum(rule.delete(session, owners[rule.owner]) for rule in RETENTION))


def _records(session: Session, sagas: SagaRows, owners: Mapping[Owner, Sequence[str]]) -> Iterator[dict[str, Any]]:
    exported = [(rule, rule.export(session, owners[rule.owner])) for rule in RETENTION]
    archived_at = runtime.current().now().isoformat()
    for saga in sagas:
        owner = {Owner.SAGA: saga.id, Owner.AGGREGATE: saga.aggregate_id}
        yield {
            "saga_id": saga.id,
            "order_id": saga.aggregate_id,
            "saga_type": saga.saga_type,
            "status": saga.status,
            "created_at": saga.created_at.isoformat(),
            "ended_at": saga.updated_at.isoformat(),
            "archived_at": archived_at,
            "rows": {rule.table.name: found.get(owner[rule.owner], []) for rule, found in exported},
        }
