"""What an operator's act would do to a saga, told before it is done."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.saga import orchestrator, registry
from app.saga.choreography import Choreography
from app.saga.definition import COMPENSATION_STARTED, TERMINAL, Operation, SagaStatus, StepStatus
from app.saga.models import SagaInstance
from app.saga.timeline import HistoryEntry
from workflows.read_side import event_flow, queries, reconciliation
from workflows.read_side.queries import SagaView
from workflows.read_side.reconciliation import Balance


@dataclass(frozen=True)
class Task:
    """What a service will be asked to do, and the step that this is part of."""

    step: str
    name: str


@dataclass(frozen=True)
class ActionPreview:
    """A saga as an operator has to see it before they act.

    ``undoing`` and ``going_on`` are what would be done, in this order, if it were undone from where it stands, or went
    on there; both are empty of a choreographed saga, where each service decides by itself.
    """

    saga: SagaInstance
    known: bool
    """Whether this process can move it, or only one of another version."""
    choreographed: bool
    turned_back: bool
    past_return: bool
    """Whether it can no longer be undone."""
    undoing: tuple[Task, ...]
    going_on: tuple[Task, ...]
    stuck_undoing: Mapping[str, Sequence[Operation]]
    """The steps whose undoing was given up, with what was given up of each: what a person may do instead."""
    ledger: Balance | None
    """What was moved for the order so far."""

    @property
    def ended(self) -> bool:
        """Tell whether there is nothing left to do."""
        return self.saga.status in TERMINAL


def review(saga_id: str) -> ActionPreview:
    """Return what there is to know of a saga before one acts on it. Raises NotFound."""
    view = queries.saga(saga_id)
    saga = view.saga
    plan = orchestrator.plan_of(saga)
    here = saga.current_step if plan else None
    choreographed = event_flow.is_choreographed(saga.saga_type)
    return ActionPreview(
        saga=saga,
        known=choreographed or plan is not None,
        choreographed=choreographed,
        turned_back=saga.state == COMPENSATION_STARTED,
        past_return=past_return(view),
        undoing=tuple(Task(s.name, s.compensation.name) for s in plan.undoing(here) if s.compensation)
        if plan and here
        else (),
        going_on=tuple(Task(s.name, s.action.name) for s in plan.remaining(here)) if plan and here else (),
        stuck_undoing=_given_up(view.operations) if saga.status == SagaStatus.STUCK else {},
        ledger=reconciliation.of(view),
    )


def past_return(view: SagaView) -> bool:
    """Tell whether a saga is past its point of no return, as far as the code deployed here knows where that is."""
    driver = registry.driver_of(view.saga)
    if isinstance(driver, Choreography):
        return any(event.event_type == driver.too_late for event in view.events)
    plan = orchestrator.plan_of(view.saga)
    return plan is not None and plan.past_pivot(view.saga.current_step)


def _given_up(operations: Iterable[HistoryEntry]) -> Mapping[str, Sequence[Operation]]:
    found: dict[str, list[Operation]] = {}
    for logged in operations:
        compensation = logged.operation is Operation.COMPENSATION
        if logged.status == StepStatus.CLOSING or (compensation and logged.status == StepStatus.FAILED):
            found.setdefault(logged.step, []).append(logged.operation)
    return found
