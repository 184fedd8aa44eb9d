"""Compare two sagas step by step, aligned by step and not by time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from durable_sagas.definition import Operation
from web.saga_view.detail import SagaDetail
from workflows.read_side.comparison import cost
from workflows.read_side.event_flow import Outcome
from workflows.read_side.saga_history import HistoryEntry


@dataclass(frozen=True)
class Done:
    """One operation of a step in one of the sagas: its log entry, its task, and its number of messages."""

    logged: HistoryEntry
    task_name: str
    messages: int

    @property
    def seconds(self) -> float | None:
        """The time from the first attempt to the end; None if it has not ended."""
        ended = self.logged.finished_at
        return (ended - self.logged.started_at).total_seconds() if ended else None


@dataclass(frozen=True)
class Comparison:
    """Two sagas, the operations of each of their steps side by side, and the total number of messages of each."""

    details: tuple[SagaDetail, SagaDetail]
    steps: Mapping[str, tuple[Sequence[Done], Sequence[Done]]]
    messages: tuple[int, int]

    @property
    def same_order(self) -> bool:
        """Whether both sagas have the same items and the same simulated faults."""
        first, second = self.details
        return bool(first.items == second.items and first.simulated == second.simulated)


def compare(first: SagaDetail, second: SagaDetail) -> Comparison:
    """Align two sagas by step, and lay out both timelines to one scale."""
    # the smaller of the two scales, so that neither timeline gets much wider than the page
    scale = min((detail.timeline.scale for detail in (first, second) if detail.timeline.scale), default=None)
    first, second = (replace(detail, timeline=detail.draw_timeline(scale=scale)) for detail in (first, second))
    one, other = _done(first), _done(second)
    steps = {name: (one.get(name, []), other.get(name, [])) for name in {**one, **other}}
    return Comparison((first, second), steps, (_messages(first), _messages(second)))


def _done(detail: SagaDetail) -> Mapping[str, list[Done]]:
    """Return the operations by step, in the order of the steps."""
    found: dict[str, list[Done]] = {step: [] for step in detail.saga.steps}
    tasks = _tasks(detail)
    deliveries = [delivery for published in detail.events for delivery in published.deliveries]
    duplicates = [one.logged.key for one in deliveries if one.logged and one.outcome is Outcome.DUPLICATE]
    for logged in detail.operations:
        messages = logged.attempts + duplicates.count(logged.key) if logged.task_id else 0
        found.setdefault(logged.step, []).append(Done(logged, tasks.get(logged.key, ""), messages))
    return found


def _tasks(detail: SagaDetail) -> dict[tuple[str, Operation], str]:
    """Return the task of each operation: a command of an orchestrated saga, or a reaction to an event."""
    if detail.choreographed:
        deliveries = [delivery for published in detail.events for delivery in published.deliveries]
        return {one.logged.key: one.task_name for one in deliveries if one.logged and one.outcome is Outcome.ACTED}
    tasks = {}
    for step in detail.plan:
        tasks[step.name, Operation.ACTION] = f"{step.service}.{step.name}"
        tasks[step.name, Operation.COMPENSATION] = f"{step.service}.{step.compensation}"
    return tasks


def _messages(detail: SagaDetail) -> int:
    """Return the number of a saga's messages so far, counted as on the Learn page."""
    events = [published.event.event_type for published in detail.events]
    return cost(detail.saga.saga_type, 0, detail.operations, events).messages
