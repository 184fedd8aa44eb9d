"""The two patterns compared on the shop's own orders: what each took and what it undid, read from the log.

Only pairs are compared: an orchestrated and a choreographed order of the same books and quantities, with the same
faults, that ended alike. Orders that an operator acted on or that were cancelled on request are left out: their
duration depends on people. Of every kind of saga and each end the latest are looked at, so that the cost does not grow
with the shop.
All numbers are counted from what was recorded; what was delivered twice, lost, or re-driven by the sweep left nothing
in the log and is not in them. They are, for one order:

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

import json
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
from app.saga.models import OperatorAction, SagaInstance, SagaStep
from app.saga.orchestrator import CANCELLED_ON_REQUEST
from tasks.orders import OrderCancelRequested
from workflows.order_choreography import ORDER_CHOREOGRAPHY
from workflows.read_side.event_flow import is_choreographed
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


Pairs = Mapping[str, Summary]
"""An orchestrated and a choreographed kind of saga, with what as many orders of the same scenarios took in each."""


@dataclass(frozen=True)
class Logged:
    """What the log keeps of one operation, as far as it is counted."""

    step: str
    operation: Operation
    status: StepStatus
    attempts: int


def compare() -> dict[SagaStatus, list[Pairs]]:
    """Return what paired orders took: by how they ended, for each kind of orchestrated saga of which there are any."""
    with runtime.current().database.reading() as session:
        return {ended: _pairs(session, ended) for ended in (SagaStatus.COMPLETED, SagaStatus.COMPENSATED)}


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


def _pairs(session: Session, ended: SagaStatus) -> list[Pairs]:
    latest = {saga_type: _latest(session, saga_type, ended) for saga_type in SAGA_TYPES}
    sagas = [saga for found in latest.values() for saga in found]
    logs = _logs(session, [saga.id for saga in sagas])
    events = _events(session, [saga.aggregate_id for saga in sagas])
    touched = _touched_by_people(session, sagas, events)
    choreographed = [saga for saga in latest[ORDER_CHOREOGRAPHY.name] if saga.id not in touched]
    compared: list[Pairs] = []
    for saga_type, found in latest.items():
        pairs = (
            []
            if is_choreographed(saga_type)
            else _matched([saga for saga in found if saga.id not in touched], choreographed)
        )
        if pairs:
            costs = [[_cost(saga, logs[saga.id], events[saga.aggregate_id]) for saga in pair] for pair in pairs]
            first, second = zip(*costs, strict=True)
            compared.append({saga_type: _summary(first), ORDER_CHOREOGRAPHY.name: _summary(second)})
    return compared


def _matched(first: Iterable[Row[Any]], second: Iterable[Row[Any]]) -> list[tuple[Row[Any], Row[Any]]]:
    """Return pairs of the same scenario, of each the newest first."""
    waiting: dict[str, list[Row[Any]]] = defaultdict(list)
    for saga in second:
        waiting[_scenario(saga)].append(saga)
    return [(saga, waiting[key].pop(0)) for saga in first if waiting[key := _scenario(saga)]]


def _scenario(saga: Row[Any]) -> str:
    """Return what two orders must have in common to be of the same scenario: what was ordered, and what was broken."""
    items = sorted((item["book_id"], item["quantity"]) for item in saga.payload.get("items", []))
    return json.dumps([items, saga.payload.get("simulate", {})], sort_keys=True)


def _touched_by_people(
    session: Session, sagas: Sequence[Row[Any]], events: Mapping[str, Sequence[EventType]]
) -> frozenset[str]:
    """Return those of these sagas that an operator resumed, skipped or cancelled, or that a customer cancelled."""
    acts = select(OperatorAction.saga_id).where(OperatorAction.saga_id.in_([saga.id for saga in sagas]))
    cancelled = {
        saga.id
        for saga in sagas
        if saga.error == CANCELLED_ON_REQUEST or OrderCancelRequested in events[saga.aggregate_id]
    }
    return frozenset(session.scalars(acts)) | cancelled


def _cost(saga: Row[Any], log: Sequence[Logged], events: Sequence[EventType]) -> Cost:
    lasted = (datetime.fromisoformat(saga.state_history[-1]["at"]) - saga.created_at).total_seconds()
    return cost(saga.saga_type, lasted, log, events)


def _latest(session: Session, saga_type: str, ended: SagaStatus) -> Sequence[Row[Any]]:
    columns = (
        SagaInstance.id,
        SagaInstance.aggregate_id,
        SagaInstance.saga_type,
        SagaInstance.created_at,
        SagaInstance.state_history,
        SagaInstance.payload,
        SagaInstance.error,
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
