"""Detect whether a saga has changed, by one cheap statement instead of loading the whole page."""

from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from typing import Any

from sqlalchemy import ColumnElement, bindparam, func, select
from sqlalchemy.orm import DeclarativeBase

from app import runtime
from app.errors import NotFound
from durable_sagas.database import table_of
from durable_sagas.definition import TERMINAL, SagaStatus
from durable_sagas.ids import is_uuid
from durable_sagas.models import OperatorAction, SagaInstance, SagaStep, StoredEvent
from tasks.gateways.carrier import CarrierEntry
from tasks.gateways.payment_provider import PaymentProviderEntry

AFTERMATH = timedelta(seconds=5)
"""How long after its end a saga may still change: a late event of a participant may reach a cancelled choreography."""


@dataclass(frozen=True)
class Version:
    """A version of a saga. Two with the same ``tag`` are equal in everything that pages display."""

    tag: str
    status: SagaStatus
    current_step: str | None
    final: bool
    """Whether no further change is expected."""

    @property
    def has_running_clock(self) -> bool:
        """Return whether the saga has a running clock: the time that it takes, or for which it has been stuck."""
        return self.status not in TERMINAL


_saga, _step = table_of(SagaInstance), table_of(SagaStep)


def _number_of(entries: type[DeclarativeBase], column: str, owner: ColumnElement[Any]) -> ColumnElement[int]:
    rows = table_of(entries)
    return select(func.count()).select_from(rows).where(rows.c[column] == owner).scalar_subquery()


# Rows are updated in place, and all rows of a transaction have the same time, so the number of rows and the newest
# timestamp are not enough: every column that can change is compared. Texts change only together with one of these
# columns. Events, operator actions and the gateways' ledgers (which are written before the saga log) are append-only,
# so their number is enough.
_SAGA = (
    "status",
    "current_step",
    "updated_at",
    "state",
    "deadline_at",
    "wake_at",
    "redrives",
    "cancel_requested_at",
    "queue",
    "ready_at",
)
_STEP = (
    "step", "operation", "status", "attempts", "earlier_attempts", "started_at", "finished_at", "event_id", "done_by",
)  # fmt: skip
_QUERY = (
    select(
        *(_saga.c[name] for name in _SAGA),
        _number_of(StoredEvent, "aggregate_id", _saga.c.order_id),
        _number_of(PaymentProviderEntry, "order_id", _saga.c.order_id),
        _number_of(CarrierEntry, "order_id", _saga.c.order_id),
        _number_of(OperatorAction, "saga_id", _saga.c.id),
        *(_step.c[name] for name in _STEP),
    )
    .select_from(_saga.outerjoin(_step, _step.c.saga_id == _saga.c.id))
    .where(_saga.c.id == bindparam("saga_id"))
    .order_by(_step.c.step, _step.c.operation)
)


def version(saga_id: str) -> Version:
    """Return the current version of a saga. Raises NotFound."""
    current = runtime.current()
    rows: list[tuple[Any, ...]] = []
    if is_uuid(saga_id):
        with current.database.reading() as session:
            rows = [tuple(row) for row in session.execute(_QUERY, {"saga_id": saga_id})]
    if not rows:
        raise NotFound(f"there is no saga {saga_id}")
    status, current_step, updated_at = SagaStatus(rows[0][0]), rows[0][1], rows[0][2]
    text = repr([tuple(map(str, row)) for row in rows])
    tag = blake2b(text.encode(), digest_size=12).hexdigest()
    return Version(tag, status, current_step, final=status in TERMINAL and current.now() - updated_at > AFTERMATH)
