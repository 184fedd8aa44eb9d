"""Compare two sagas step by step, aligned by step and not by time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from app.saga.definition import Operation
from app.saga.timeline import HistoryEntry
from web.saga_view.detail import SagaDetail
from workflows.read_side.comparison import Logged, cost
from workflows.read_side.event_flow import Outcome


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
class Step:
    """The operations of one step, in the first and in the second saga."""

    name: str
    sides: tuple[Sequence[Done], Sequence[Done]]


@dataclass(frozen=True)
class Comparison:
    """Two sagas, their steps side by side, and the total number of messages of each."""

    stories: tuple[SagaDetail, SagaDetail]
    steps: Sequence[Step]
    messages: tuple[int, int]

    @property
    def same_order(self) -> bool:
        """Whether both sagas have the same items and the same simulated faults."""
        first, second = self.stories
        return bool(first.items == second.items and first.simulated == second.simulated)


def compare(first: SagaDetail, second: SagaDetail) -> Comparison:
    """Align two sagas by step, and lay out both timelines to one scale."""
    first, second = _to_one_scale(first, second)
    sides = _done(first), _done(second)
    names = dict.fromkeys(name for story in (first, second) for name in _names(story))
    steps = [Step(name, (sides[0].get(name, []), sides[1].get(name, []))) for name in names]
    return Comparison((first, second), steps, (_messages(first), _messages(second)))


def _to_one_scale(first: SagaDetail, second: SagaDetail) -> tuple[SagaDetail, SagaDetail]:
    # the smaller of the two scales, so that neither timeline gets much wider than the page
    scale = min((told.timeline.scale for told in (first, second) if told.timeline.scale), default=None)
    one, other = (replace(told, timeline=told.draw_timeline(scale=scale)) for told in (first, second))
    return one, other


def _names(story: SagaDetail) -> list[str]:
    return [*story.saga.steps, *(logged.step for logged in story.operations)]


def _done(story: SagaDetail) -> Mapping[str, list[Done]]:
    found: dict[str, list[Done]] = {}
    tasks = _tasks(story)
    heard = [heard for said in story.said for heard in said.deliveries if heard.outcome is Outcome.DUPLICATE]
    again = [one.logged.key for one in heard if one.logged]
    for logged in story.operations:
        messages = logged.attempts + again.count(logged.key) if logged.task_id else 0
        found.setdefault(logged.step, []).append(Done(logged, tasks.get(logged.key, ""), messages))
    return found


def _tasks(story: SagaDetail) -> dict[tuple[str, Operation], str]:
    """Return the task of each operation: a command of an orchestrated saga, or a reaction to an event."""
    if story.choreographed:
        acted = [heard for said in story.said for heard in said.deliveries if heard.outcome is Outcome.ACTED]
        return {heard.logged.key: heard.task_name for heard in acted if heard.logged}
    tasks = {}
    for step in story.plan:
        tasks[step.name, Operation.ACTION] = f"{step.service}.{step.name}"
        tasks[step.name, Operation.COMPENSATION] = f"{step.service}.{step.undoing}"
    return tasks


def _messages(story: SagaDetail) -> int:
    """Return the number of a saga's messages so far, counted as on the Learn page."""
    log = [Logged(one.step, one.operation, one.status, one.attempts) for one in story.operations]
    return cost(story.saga.saga_type, 0, log, [said.event.event_type for said in story.said]).messages
