"""Preview what an operator's action would do to a saga."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.sagas import sagas
from durable_sagas.choreography import Choreography
from durable_sagas.definition import COMPENSATION_STARTED, TERMINAL, Operation, SagaStatus, StepStatus
from durable_sagas.models import SagaInstance
from workflows.read_side import event_flow, queries, reconciliation
from workflows.read_side.queries import SagaView
from workflows.read_side.reconciliation import Balance
from workflows.read_side.saga_history import HistoryEntry


@dataclass(frozen=True)
class Task:
    """A task that would be run, and its step."""

    step: str
    name: str


@dataclass(frozen=True)
class ActionPreview:
    """A saga, and what cancelling, resuming or skipping would do to it.

    ``undoing`` and ``going_on`` are the tasks that would be run, in this order, if the saga were compensated from its
    current step, or continued there; both are empty for a choreographed saga, where each service decides for itself.
    """

    saga: SagaInstance
    known: bool
    """Whether this process can drive the saga; otherwise only a process of another version can."""
    choreographed: bool
    turned_back: bool
    past_return: bool
    """Whether it is past its point of no return, so that it can no longer be compensated."""
    undoing: tuple[Task, ...]
    going_on: tuple[Task, ...]
    stuck_undoing: Mapping[str, Sequence[Operation]]
    """The operations that a stuck saga has given up, by step: an operator may complete them manually."""
    ledger: Balance | None
    """The balance of the order so far; None if the order does not exist."""

    @property
    def ended(self) -> bool:
        """Return whether the saga is in a terminal status."""
        return self.saga.status in TERMINAL


def review(saga_id: str) -> ActionPreview:
    """Return the preview of a saga. Raises NotFound."""
    view = queries.saga(saga_id)
    saga = view.saga
    plan = sagas.plan_of(saga)
    here = saga.current_step if plan else None
    choreographed = event_flow.is_choreographed(saga.saga_type)
    return ActionPreview(
        saga=saga,
        known=choreographed or plan is not None,
        choreographed=choreographed,
        turned_back=saga.state == COMPENSATION_STARTED,
        past_return=past_return(view),
        undoing=tuple(Task(s.name, s.compensation.name) for s in plan.to_compensate(here) if s.compensation)
        if plan and here
        else (),
        going_on=tuple(Task(s.name, s.action.name) for s in plan.from_step(here)) if plan and here else (),
        stuck_undoing=_given_up(view.operations) if saga.status == SagaStatus.STUCK else {},
        ledger=reconciliation.of(view),
    )


def past_return(view: SagaView) -> bool:
    """Return whether a saga is past its point of no return; False if the deployed code does not know where that is."""
    driver = sagas.saga_types.get(view.saga.saga_type)
    if isinstance(driver, Choreography):
        return any(event.event_type == driver.point_of_no_return for event in view.events)
    plan = sagas.plan_of(view.saga)
    return plan is not None and plan.past_pivot(view.saga.current_step)


def _given_up(operations: Iterable[HistoryEntry]) -> Mapping[str, Sequence[Operation]]:
    found: dict[str, list[Operation]] = {}
    for logged in operations:
        compensation = logged.operation is Operation.COMPENSATION
        if logged.status == StepStatus.CLOSING or (compensation and logged.status == StepStatus.FAILED):
            found.setdefault(logged.step, []).append(logged.operation)
    return found
