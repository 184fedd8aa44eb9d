"""Lay out the steps of an orchestrated saga: actions from left to right, their compensations right below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from durable_sagas.definition import COMPENSATION_STARTED, Operation, SagaStatus
from durable_sagas.models import SagaInstance
from web.diagrams.plan import PlannedStep
from web.diagrams.text import plain, width_of
from web.saga_view import icons
from web.saga_view.icons import Mark
from workflows.read_side.saga_history import HistoryEntry

MARGIN = 8
NARROWEST, GAP = 132, 30
ACTION_Y, ACTION_HEIGHT = 34, 78
UNDOING_Y, UNDOING_HEIGHT = 152, 66
HEIGHT = UNDOING_Y + UNDOING_HEIGHT + 8
PADDING = 10


@dataclass(frozen=True)
class Box:
    """An operation: its name, its service, the icon of its status, and its attempts.

    ``most`` is the maximum number of attempts while it waits for a retry.
    """

    x: float
    y: float
    width: float
    height: float
    title: str
    service: str | None
    mark: Mark
    attempts: int
    most: int | None
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
    """The whole diagram; ``no_return_x`` is the position of the point of no return."""

    width: float
    height: float
    actions: Sequence[Box]
    undoings: Sequence[Box]
    arrows: Sequence[Arrow]
    no_return_x: float | None


def step_diagram(saga: SagaInstance, operations: Sequence[HistoryEntry], plan: Sequence[PlannedStep]) -> StepDiagram:
    """Lay out a saga's steps, including those that it has not reached."""
    known = {logged.key: logged for logged in operations}
    turned = saga.state == COMPENSATION_STARTED or saga.status == SagaStatus.COMPENSATED
    drawn = _Drawn(saga, known, turned, _column(plan, operations))
    actions = [drawn.action(index, step) for index, step in enumerate(plan)]
    undoings = {index: drawn.undoing(index, step) for index, step in enumerate(plan) if step.undoing}
    pivots = [box.x + box.width + GAP / 2 for box, step in zip(actions, plan, strict=True) if step.pivot]
    return StepDiagram(
        width=2 * MARGIN + len(plan) * (drawn.width + GAP) - GAP,
        height=HEIGHT if undoings else ACTION_Y + ACTION_HEIGHT + 8,
        actions=actions,
        undoings=list(undoings.values()),
        arrows=[*_forward(actions), *_back(actions, undoings, known, plan, turned)],
        no_return_x=pivots[0] if pivots else None,
    )


def _column(plan: Sequence[PlannedStep], operations: Sequence[HistoryEntry]) -> float:
    titles = [plain(name) for step in plan for name in (step.name, step.undoing) if name]
    marks = [f"{mark.glyph} {mark.word}" for mark in map(icons.of_operation, operations)]
    widest = [width_of(title, 13) for title in titles] + [width_of(text, 12) for text in marks]
    return max(NARROWEST, *widest) + 2 * PADDING


@dataclass(frozen=True)
class _Drawn:
    saga: SagaInstance
    known: Mapping[tuple[str, Operation], HistoryEntry]
    turned: bool
    width: float

    def action(self, index: int, step: PlannedStep) -> Box:
        """Return the box of a step's action."""
        return self._box(index, ACTION_Y, ACTION_HEIGHT, step.name, step.service, (step.name, Operation.ACTION))

    def undoing(self, index: int, step: PlannedStep) -> Box:
        """Return the box of a step's compensation."""
        title = step.undoing or step.name
        return self._box(index, UNDOING_Y, UNDOING_HEIGHT, title, None, (step.name, Operation.COMPENSATION))

    def _box(
        self, index: int, y: float, height: float, title: str, service: str | None, key: tuple[str, Operation]
    ) -> Box:
        logged = self.known.get(key)
        here = self.saga.current_step == key[0] and self.turned == (key[1] is Operation.COMPENSATION)
        return Box(
            x=MARGIN + index * (self.width + GAP),
            y=y,
            width=self.width,
            height=height,
            title=plain(title),
            service=service,
            mark=self._mark(key, logged, here),
            attempts=logged.attempts if logged else 0,
            most=logged.max_attempts if logged and logged.retry_at else None,
            current=here,
        )

    def _mark(self, key: tuple[str, Operation], logged: HistoryEntry | None, here: bool) -> Mark:
        if here and self.saga.status == SagaStatus.STUCK:
            return icons.STUCK
        if logged:
            return icons.of_operation(logged)
        if key[1] is Operation.ACTION:
            return icons.NOT_REACHED if self.turned or self.saga.status == SagaStatus.COMPENSATED else icons.PENDING
        awaited = self.turned and (key[0], Operation.ACTION) in self.known
        return icons.PENDING if awaited else icons.NOT_NEEDED


def _forward(actions: Sequence[Box]) -> list[Arrow]:
    arrows = []
    for box, following in pairwise(actions):
        passed = box.mark is icons.DONE and following.mark not in (icons.PENDING, icons.NOT_REACHED)
        y = box.y + box.height / 2
        arrows.append(Arrow(box.x + box.width, y, following.x, y, "passed" if passed else "ghost"))
    return arrows


def _back(
    actions: Sequence[Box],
    undoings: Mapping[int, Box],
    known: Mapping[tuple[str, Operation], HistoryEntry],
    plan: Sequence[PlannedStep],
    turned: bool,
) -> list[Arrow]:
    """Return the arrows of the compensation: down from the step where it started, then from right to left."""
    begun = [index for index, step in enumerate(plan) if (step.name, Operation.ACTION) in known]
    turn = max(begun, default=0) if turned else -1
    arrows = []
    if turn in undoings:
        box = undoings[turn]
        arrows.append(Arrow(box.middle, actions[turn].y + actions[turn].height, box.middle, box.y, "undoing"))
    for index in sorted(undoings, reverse=True):
        if index - 1 in undoings:
            box, earlier = undoings[index], undoings[index - 1]
            y = box.y + box.height / 2
            passed = index <= turn and (plan[index - 1].name, Operation.COMPENSATION) in known
            style = "undoing" if passed else "ghost"
            arrows.append(Arrow(box.x, y, earlier.x + earlier.width, y, style))
    return arrows
