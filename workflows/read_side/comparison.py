"""Compare the two patterns on the shop's own orders: cost and compensated actions, computed from the saga log.

Only pairs are compared: an orchestrated and a choreographed order of the same books and quantities, with the same
faults and the same outcome. Orders that an operator acted on, or that were cancelled on request, are left out because
their duration depends on people. Only the latest sagas of each type and outcome are read, so that the cost does not
grow with the shop.
All numbers are computed from the log; duplicate and lost deliveries and re-drives leave no entry there and are not
counted. For one order:

messages
    tasks sent to a queue. Orchestrated: one per recorded attempt at a step's action or compensation, and one for the
    error callback if a failed step started the compensation. Choreographed: one per subscriber of each event, by the
    subscriptions of the current code, and one per retry. In both, one per subscriber outside the saga (the customer's
    notification).
transactions
    recorded business transactions: the one that stored the order, and one per operation in the log that completed,
    failed or was completed manually. A skipped operation changed nothing. A choreographed order is stored by the
    transaction that opens its saga.
seconds
    time from placing the order until its saga reached its last state.
compensated
    actions that had taken effect and were then compensated, by a service or manually.
retries
    attempts beyond the first of each operation.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean, median

from sqlalchemy import select

from app import runtime
from app.sagas import sagas
from durable_sagas.definition import Operation, SagaStatus, StepStatus
from durable_sagas.messages import EventType
from durable_sagas.models import OperatorAction, SagaInstance
from durable_sagas.orchestrator import CANCELLED_ON_REQUEST
from tasks.orders import OrderCancelRequested
from workflows.order_choreography import ORDER_CHOREOGRAPHY
from workflows.read_side import queries
from workflows.read_side.event_flow import is_choreographed
from workflows.read_side.saga_history import HistoryEntry
from workflows.scenarios import SAGA_TYPES

LATEST = 50
"""How many sagas of each type and outcome are read."""

COMMITTED = frozenset({StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.BY_HAND})
SUCCEEDED = frozenset({StepStatus.COMPLETED, StepStatus.BY_HAND})


@dataclass(frozen=True)
class Cost:
    """The cost of one order; the module's docstring defines the fields."""

    messages: int
    transactions: int
    seconds: float
    compensated: int
    retries: int


@dataclass(frozen=True)
class Summary:
    """The cost of several orders: means, and the median of the time."""

    orders: int
    messages: float
    transactions: float
    seconds: float
    compensated: float
    retries: float


Pairs = Mapping[str, Summary]
"""The summaries of an orchestrated and the choreographed saga type, over equally many orders of the same scenarios."""


def compare() -> dict[SagaStatus, list[Pairs]]:
    """Return the summaries of paired orders by outcome, one entry per orchestrated saga type that has pairs."""
    return {ended: _pairs(ended) for ended in (SagaStatus.COMPLETED, SagaStatus.COMPENSATED)}


def cost(saga_type: str, lasted: float, log: Sequence[HistoryEntry], events: Iterable[EventType]) -> Cost:
    """Return the cost of one order, from its log and its events."""
    retries = sum(max(0, entry.attempts - 1) for entry in log)
    delivered = sum(len(sagas.subscribers(event, scope)) for event in events for scope in (saga_type, None))
    actions = [entry for entry in log if entry.operation is Operation.ACTION]
    if is_choreographed(saga_type):
        sent, stored = retries, 0  # stored by the transaction of the saga's first action, which is in the log
    else:
        callbacks = any(entry.status is StepStatus.FAILED for entry in actions)
        sent, stored = sum(entry.attempts for entry in log) + callbacks, 1
    done = {entry.step for entry in actions if entry.status is StepStatus.COMPLETED}
    return Cost(
        messages=delivered + sent,
        transactions=stored + sum(entry.status in COMMITTED for entry in log),
        seconds=lasted,
        compensated=sum(
            entry.operation is Operation.COMPENSATION and entry.status in SUCCEEDED and entry.step in done
            for entry in log
        ),
        retries=retries,
    )


def _pairs(ended: SagaStatus) -> list[Pairs]:
    latest = {name: queries.sagas(status=ended, saga_type=name, limit=LATEST).rows for name in SAGA_TYPES}
    sagas = [saga for found in latest.values() for saga in found]
    logs, events = queries.operations_of_each(sagas), queries.events_of_each([saga.aggregate_id for saga in sagas])
    types = {order_id: [event.event_type for event in published] for order_id, published in events.items()}
    excluded = _influenced_by_people(sagas, types)
    comparable = {name: [saga for saga in found if saga.id not in excluded] for name, found in latest.items()}
    choreographed = comparable.pop(ORDER_CHOREOGRAPHY.name)
    compared: list[Pairs] = []
    for saga_type, found in comparable.items():
        if pairs := _matched(found, choreographed):
            costs = [[_cost(saga, logs[saga.id], types[saga.aggregate_id]) for saga in pair] for pair in pairs]
            first, second = zip(*costs, strict=True)
            compared.append({saga_type: _summary(first), ORDER_CHOREOGRAPHY.name: _summary(second)})
    return compared


def _matched(first: Iterable[SagaInstance], second: Iterable[SagaInstance]) -> list[tuple[SagaInstance, SagaInstance]]:
    """Return pairs of sagas of the same scenario, newest first."""
    waiting: dict[str, list[SagaInstance]] = defaultdict(list)
    for saga in second:
        waiting[_scenario(saga)].append(saga)
    return [(saga, waiting[key].pop(0)) for saga in first if waiting[key := _scenario(saga)]]


def _scenario(saga: SagaInstance) -> str:
    """Return the key by which orders are matched: the ordered items and the injected faults."""
    items = sorted((item["book_id"], item["quantity"]) for item in saga.payload.get("items", []))
    return json.dumps([items, saga.payload.get("simulate", {})], sort_keys=True)


def _influenced_by_people(sagas: Sequence[SagaInstance], events: Mapping[str, Sequence[EventType]]) -> Collection[str]:
    """Return the ids of the sagas that an operator resumed, skipped or cancelled, or that a customer cancelled."""
    acts = select(OperatorAction.saga_id).where(OperatorAction.saga_id.in_([saga.id for saga in sagas]))
    cancelled = {
        saga.id
        for saga in sagas
        if saga.error == CANCELLED_ON_REQUEST or OrderCancelRequested in events[saga.aggregate_id]
    }
    with runtime.current().database.reading() as session:
        return cancelled.union(session.scalars(acts))


def _cost(saga: SagaInstance, log: Sequence[HistoryEntry], events: Sequence[EventType]) -> Cost:
    lasted = (datetime.fromisoformat(saga.state_history[-1]["at"]) - saga.created_at).total_seconds()
    return cost(saga.saga_type, lasted, log, events)


def _summary(costs: Sequence[Cost]) -> Summary:
    return Summary(
        orders=len(costs),
        messages=fmean(cost.messages for cost in costs),
        transactions=fmean(cost.transactions for cost in costs),
        seconds=median(cost.seconds for cost in costs),
        compensated=fmean(cost.compensated for cost in costs),
        retries=fmean(cost.retries for cost in costs),
    )
