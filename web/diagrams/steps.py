"""Lay out the steps of an orchestrated saga: actions from left to right, their compensations right below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from durable_sagas.definition import COMPENSATION_STARTED, Operation, SagaStatus
from durable_sagas.models import SagaInstance
from web.diagrams.plan import PlannedStep
from web.saga_view import icons
from web.saga_view.icons import Mark
from web.text import plain, width_of
from workflows.read_side.saga_history import HistoryEntry

MARGIN = 8
MIN_WIDTH, GAP = 132, 30
ACTION_Y, ACTION_HEIGHT = 34, 78
COMPENSATION_Y, COMPENSATION_HEIGHT = 152, 66
HEIGHT = COMPENSATION_Y + COMPENSATION_HEIGHT + 8
PADDING = 10


@dataclass(frozen=True)
class Box:
    """An operation: its name, its service, the icon of its status, and its attempts.

    ``max_attempts`` is the maximum number of attempts while it waits for a retry.
    """

    x: float
    y: float
    width: float
    height: float
    title: str
    service: str | None
    mark: Mark
    attempts: int
    max_attempts: int | None
    current: bool

    @property
    def middle(self) -> float:
        """The horizontal center."""
        return self.x + self.width / 2


@dataclass(frozen=True)
class Arrow:
    """An arrow between two boxes; ``style`` is ``passed``, ``ghost`` or ``undoing``."""

    x1: float
    y1: float
    x2: float
    y2: float
    style: str


@dataclass(frozen=True)
class StepDiagram:
    """The whole diagram; ``pivot_x`` is the position of the point of no return."""

    width: float
    height: float
    actions: Sequence[Box]
    compensations: Sequence[Box]
    arrows: Sequence[Arrow]
    pivot_x: float | None


def step_diagram(saga: SagaInstance, operations: Sequence[HistoryEntry], plan: Sequence[PlannedStep]) -> StepDiagram:
    """Lay out a saga's steps, including those that it has not reached."""
    by_operation = {logged.key: logged for logged in operations}
    compensating = saga.state == COMPENSATION_STARTED or saga.status == SagaStatus.COMPENSATED
    layout = _Layout(saga, by_operation, compensating, _column(plan, operations))
    actions = [layout.box(index, step, Operation.ACTION) for index, step in enumerate(plan)]
    compensations = {
        index: layout.box(index, step, Operation.COMPENSATION) for index, step in enumerate(plan) if step.compensation
    }
    pivots = [box.x + box.width + GAP / 2 for box, step in zip(actions, plan, strict=True) if step.pivot]
    return StepDiagram(
        width=2 * MARGIN + len(plan) * (layout.width + GAP) - GAP,
        height=HEIGHT if compensations else ACTION_Y + ACTION_HEIGHT + 8,
        actions=actions,
        compensations=list(compensations.values()),
        arrows=[*_forward(actions), *layout.back(plan, actions, compensations)],
        pivot_x=pivots[0] if pivots else None,
    )


def _column(plan: Sequence[PlannedStep], operations: Sequence[HistoryEntry]) -> float:
    titles = [plain(name) for step in plan for name in (step.name, step.compensation) if name]
    marks = [f"{mark.glyph} {mark.word}" for mark in map(icons.of_operation, operations)]
    widest = [width_of(title, 13) for title in titles] + [width_of(text, 12) for text in marks]
    return max(MIN_WIDTH, *widest) + 2 * PADDING


@dataclass(frozen=True)
class _Layout:
    saga: SagaInstance
    by_operation: Mapping[tuple[str, Operation], HistoryEntry]
    compensating: bool
    width: float

    def box(self, index: int, step: PlannedStep, operation: Operation) -> Box:
        """Return the box of a step's action, or of its compensation."""
        is_action = operation is Operation.ACTION
        logged = self.by_operation.get((step.name, operation))
        is_current = self.saga.current_step == step.name and self.compensating is not is_action
        return Box(
            x=MARGIN + index * (self.width + GAP),
            y=ACTION_Y if is_action else COMPENSATION_Y,
            width=self.width,
            height=ACTION_HEIGHT if is_action else COMPENSATION_HEIGHT,
            title=plain(step.name if is_action else step.compensation or step.name),
            service=step.service if is_action else None,
            mark=self._mark(step, is_action, logged, is_current),
            attempts=logged.attempts if logged else 0,
            max_attempts=logged.max_attempts if logged and logged.retry_at else None,
            current=is_current,
        )

    def _mark(self, step: PlannedStep, is_action: bool, logged: HistoryEntry | None, is_current: bool) -> Mark:
        if is_current and self.saga.status == SagaStatus.STUCK:
            return icons.STUCK
        if logged:
            return icons.of_operation(logged)
        if is_action:
            return icons.NOT_REACHED if self.compensating else icons.PENDING
        pending = self.compensating and (step.name, Operation.ACTION) in self.by_operation
        return icons.PENDING if pending else icons.NOT_NEEDED

    def back(
        self, plan: Sequence[PlannedStep], actions: Sequence[Box], compensations: Mapping[int, Box]
    ) -> list[Arrow]:
        """Return the arrows of the compensation: down from the step where it started, then from right to left."""
        started = [index for index, step in enumerate(plan) if (step.name, Operation.ACTION) in self.by_operation]
        turning_index = max(started, default=0) if self.compensating else -1
        arrows = []
        if turning_index in compensations:
            action, box = actions[turning_index], compensations[turning_index]
            arrows.append(Arrow(box.middle, action.y + action.height, box.middle, box.y, "undoing"))
        for index in sorted(compensations, reverse=True):
            if index - 1 in compensations:
                box, earlier = compensations[index], compensations[index - 1]
                y = box.y + box.height / 2
                passed = index <= turning_index and (plan[index - 1].name, Operation.COMPENSATION) in self.by_operation
                arrows.append(Arrow(box.x, y, earlier.x + earlier.width, y, "undoing" if passed else "ghost"))
        return arrows


def _forward(actions: Sequence[Box]) -> list[Arrow]:
    arrows = []
    for box, next_box in pairwise(actions):
        passed = box.mark is icons.DONE and next_box.mark not in (icons.PENDING, icons.NOT_REACHED)
        y = box.y + box.height / 2
        arrows.append(Arrow(box.x + box.width, y, next_box.x, y, "passed" if passed else "ghost"))
    return arrows
