"""The two patterns compared on the shop's own orders: what each took and what it undid, read from the log.

Of every kind of saga the latest that completed and the latest that were undone are looked at, so that the cost does not
grow with the shop. All numbers are counted from what was recorded; what was delivered twice, lost, or re-driven by the
sweep left nothing in the log and is not in them. They are, for one order:

messages
    tasks that were sent to a queue. Orchestrated: one per recorded attempt at a step's action or compensation, and one
    for the error callback when a step that had failed turned the saga back. Choreographed: one for each subscriber of
    each event, by the subscriptions of today's code, and one for each repeated attempt. In both, one for each listener
    outside the saga (the customer's notification).
transactions
    business transactions recorded: the one that stored the order, and one for each operation in the log that was done,
    refused or done by hand. What was skipped changed nothing. A choreographed order is stored and opened in one.
seconds
    from the order's being placed to the moment in which its saga reached its last state.
undone
    actions that had taken effect and were then compensated, by a service or by hand.
retries
    attempts beyond the first one of each operation.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean, median
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from app import runtime
from app.events import StoredEvent, subscribers
from app.messages import EventType
from app.saga.definition import Operation, SagaStatus, StepStatus
from app.saga.models import SagaInstance, SagaStep
from workflows.conversation import is_choreographed
from workflows.scenarios import SAGA_TYPES

LATEST = 50
"""How many sagas of each kind, and of each end, are looked at."""

CHANGED = frozenset({StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.BY_HAND})
UNDONE = frozenset({StepStatus.COMPLETED, StepStatus.BY_HAND})


@dataclass(frozen=True)
class Cost:
    """What one order took; see this module's docstring."""

    messages: int
    transactions: int
    seconds: float
    undone: int
    retries: int


@dataclass(frozen=True)
class Summary:
    """What several orders took: means, and the median of the time."""

    orders: int
    messages: float
    transactions: float
    seconds: float
    undone: float
    retries: float


@dataclass(frozen=True)
class Logged:
    """What the log keeps of one operation, as far as it is counted."""

    step: str
    operation: Operation
    status: StepStatus
    attempts: int


def compare() -> dict[SagaStatus, dict[str, Summary]]:
    """Return what the latest orders took: by how they ended, and by kind of saga where there are any."""
    with runtime.current().database.reading() as session:
        return {ended: _summaries(session, ended) for ended in (SagaStatus.COMPLETED, SagaStatus.COMPENSATED)}


def cost(saga_type: str, lasted: float, log: Sequence[Logged], events: Iterable[EventType]) -> Cost:
    """Return what one order took, by its log and its events."""
    retries = sum(max(0, entry.attempts - 1) for entry in log)
    told = sum(len(subscribers(event, scope)) for event in events for scope in (saga_type, None))
    if is_choreographed(saga_type):
        sent, stored = retries, 0  # it is stored by the transaction that opens it, which is in the log
    else:
        sent, stored = sum(entry.attempts for entry in log) + _callbacks(log), 1
    done = {entry.step for entry in log if (entry.operation, entry.status) == (Operation.ACTION, StepStatus.COMPLETED)}
    return Cost(
        messages=told + sent,
        transactions=stored + sum(entry.status in CHANGED for entry in log),
        seconds=lasted,
        undone=sum(
            entry.operation is Operation.COMPENSATION and entry.status in UNDONE and entry.step in done for entry in log
        ),
        retries=retries,
    )


def _callbacks(log: Iterable[Logged]) -> int:
    return int(any((entry.operation, entry.status) == (Operation.ACTION, StepStatus.FAILED) for entry in log))


def _summaries(session: Session, ended: SagaStatus) -> dict[str, Summary]:
    sagas = [saga for saga_type in SAGA_TYPES for saga in _latest(session, saga_type, ended)]
    logs = _logs(session, [saga.id for saga in sagas])
    events = _events(session, [saga.aggregate_id for saga in sagas])
    costs: dict[str, list[Cost]] = defaultdict(list)
    for saga in sagas:
        lasted = (datetime.fromisoformat(saga.state_history[-1]["at"]) - saga.created_at).total_seconds()
        costs[saga.saga_type].append(cost(saga.saga_type, lasted, logs[saga.id], events[saga.aggregate_id]))
    return {saga_type: _summary(found) for saga_type, found in costs.items()}


def _latest(session: Session, saga_type: str, ended: SagaStatus) -> Sequence[Row[Any]]:
    columns = (
        SagaInstance.id,
        SagaInstance.aggregate_id,
        SagaInstance.saga_type,
        SagaInstance.created_at,
        SagaInstance.state_history,
    )
    query = select(*columns).where(SagaInstance.status == ended, SagaInstance.saga_type == saga_type)
    return session.execute(query.order_by(SagaInstance.id.desc()).limit(LATEST)).all()


def _logs(session: Session, saga_ids: Sequence[str]) -> Mapping[str, list[Logged]]:
    columns = (SagaStep.saga_id, SagaStep.step, SagaStep.operation, SagaStep.status, SagaStep.attempts)
    logs: dict[str, list[Logged]] = defaultdict(list)
    for saga_id, step, operation, status, attempts in session.execute(
        select(*columns).where(SagaStep.saga_id.in_(saga_ids))
    ):
        logs[saga_id].append(Logged(step, Operation(operation), StepStatus(status), attempts))
    return logs


def _events(session: Session, order_ids: Sequence[str]) -> Mapping[str, list[EventType]]:
    query = select(StoredEvent.aggregate_id, StoredEvent.event_type).where(StoredEvent.aggregate_id.in_(order_ids))
    events: dict[str, list[EventType]] = defaultdict(list)
    for order_id, event_type in session.execute(query):
        events[order_id].append(event_type)
    return events


def _summary(costs: Sequence[Cost]) -> Summary:
    return Summary(
        orders=len(costs),
        messages=fmean(cost.messages for cost in costs),
        transactions=fmean(cost.transactions for cost in costs),
        seconds=median(cost.seconds for cost in costs),
        undone=fmean(cost.undone for cost in costs),
        retries=fmean(cost.retries for cost in costs),
    )
