"""List a saga's steps as far as the deployed code declares them."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.sagas import sagas
from durable_sagas.definition import Operation
from durable_sagas.models import SagaInstance
from workflows.read_side.saga_history import HistoryEntry


@dataclass(frozen=True)
class PlannedStep:
    """A step, reached or not; ``compensation`` is None if it has none, or if it is not known."""

    name: str
    service: str | None = None
    compensation: str | None = None
    pivot: bool = False


def planned(saga: SagaInstance, operations: Sequence[HistoryEntry]) -> list[PlannedStep]:
    """Return a saga's steps in order; those of a choreographed saga, which has no plan, in order of occurrence."""
    if plan := sagas.plan_of(saga):
        return [
            PlannedStep(
                step.name, step.action.service, step.compensation.short_name if step.compensation else None, step.pivot
            )
            for step in plan.steps
        ]
    # an orchestrated saga without a plan may have started before a deploy that removed a step: its log stays valid
    compensated = {logged.step for logged in operations if logged.operation is Operation.COMPENSATION}
    names = dict.fromkeys([*saga.steps, *(logged.step for logged in sorted(operations, key=lambda o: o.started_at))])
    return [
        PlannedStep(name, sagas.service_of(name), f"undo_{name}" if name in compensated else None) for name in names
    ]
