"""Build the view model of a saga's page: its log, its order's ledger, and the diagrams."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from app import runtime
from app.observability import tracing
from durable_sagas.models import OperatorAction, SagaInstance
from web.diagrams.plan import PlannedStep, planned
from web.diagrams.sequence import SequenceDiagram, sequence_diagram
from web.diagrams.steps import StepDiagram, step_diagram
from web.diagrams.timeline import Timeline, timeline
from web.saga_view import icons, status_text
from web.saga_view.actions import Action, available_actions
from web.saga_view.icons import Mark
from workflows.read_side import event_flow, queries, reconciliation
from workflows.read_side.event_flow import PublishedEvent
from workflows.read_side.reconciliation import Balance
from workflows.read_side.saga_history import HistoryEntry


@dataclass(frozen=True)
class SagaDetail:
    """The data of a saga's page; of ``steps`` and ``sequence`` only the one of its pattern is set."""

    saga: SagaInstance
    sentence: str
    choreographed: bool
    balance: Balance | None
    actions: Sequence[Action]
    steps: StepDiagram | None
    sequence: SequenceDiagram | None
    timeline: Timeline
    draw_timeline: Callable[..., Timeline]
    """Lays out the timeline with another ``scale``."""
    legend: Sequence[Mark]
    plan: Sequence[PlannedStep]
    operations: Sequence[HistoryEntry]
    events: Sequence[PublishedEvent]
    operator_actions: Sequence[OperatorAction]
    flower: str | None
    jaeger: str | None

    @property
    def items(self) -> Any:
        """The order's items, from the saga's context."""
        return self.saga.payload.get("items", [])

    @property
    def simulated(self) -> Any:
        """The simulated faults, from the saga's context."""
        return self.saga.payload.get("simulate", {})


def load(saga_id: str) -> SagaDetail:
    """Load the data of a saga's page. Raises NotFound."""
    current = runtime.current()
    view = queries.saga(saga_id)
    now = current.now()
    events = event_flow.of(view)
    operations = [*view.operations, *event_flow.pending_operations(view, events)]
    plan = planned(view.saga, operations)
    choreographed = event_flow.is_choreographed(view.saga.saga_type)
    draw_timeline = partial(timeline, view.saga, operations, plan, now, view.operator_actions)
    jaeger, trace_id = current.settings.jaeger_url, tracing.trace_id_of(view.saga.traceparent)
    return SagaDetail(
        saga=view.saga,
        sentence=status_text.sentence(view, events, now),
        choreographed=choreographed,
        balance=reconciliation.of(view),
        actions=available_actions(view),
        steps=None if choreographed else step_diagram(view.saga, operations, plan),
        sequence=sequence_diagram(events) if choreographed else None,
        timeline=draw_timeline(),
        draw_timeline=draw_timeline,
        legend=(*icons.LEGEND, *icons.DELIVERY_LEGEND) if choreographed else icons.LEGEND,
        plan=plan,
        operations=operations,
        events=events,
        operator_actions=view.operator_actions,
        flower=current.settings.flower_url,
        jaeger=f"{jaeger}/trace/{trace_id}" if jaeger and trace_id else None,
    )
