"""Lay out a saga's timeline: two lanes per step, action above compensation, on one axis; one segment per attempt."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest

from durable_sagas.definition import ACTIVE, COMPENSATION_STARTED, Operation, SagaStatus, StepStatus
from durable_sagas.models import OperatorAction, SagaInstance
from web.diagrams.axis import Axis, Cut, axis
from web.diagrams.plan import PlannedStep
from web.i18n import translate as _
from web.saga_view import icons
from web.saga_view.icons import Mark
from web.text import duration, plain, width_of
from workflows.read_side.saga_history import HistoryEntry, LoggedAttempt

GUTTER, PLOT, MARGIN = 176.0, 740.0, 8.0
TOP, ROW, LANE = 44.0, 56.0, 24.0
BOTTOM = 26.0
BESIDE = 190.0
"""The space for labels on the right of the axis."""
LABEL_SIZE = 12
WAIT = "wait"


@dataclass(frozen=True)
class Segment:
    """One attempt, or the wait for the next one; ``description`` describes it in words."""

    x: float
    width: float
    style: str
    description: str


@dataclass(frozen=True)
class Label:
    """A text beside a lane's segments, never on top of them."""

    x: float
    anchor: str
    text: str
    style: str


@dataclass(frozen=True)
class Lane:
    """One operation of a step; without segments it has not been attempted."""

    y: float
    title: str
    is_compensation: bool
    segments: Sequence[Segment]
    label: Label | None

    @property
    def middle(self) -> float:
        """The vertical center."""
        return self.y + LANE / 2


@dataclass(frozen=True)
class Row:
    """A step with its lanes."""

    y: float
    lanes: Sequence[Lane]


@dataclass(frozen=True)
class Tick:
    """A labelled moment of the axis."""

    x: float
    text: str


@dataclass(frozen=True)
class Timeline:
    """The whole diagram. ``now`` is set while the saga is active, ``compensation_start`` once it has turned back."""

    width: float
    height: float
    left: float
    right: float
    rows: Sequence[Row]
    compensation_start: float | None
    now: float | None
    ticks: Sequence[Tick]
    idle: Sequence[Cut]
    operator_actions: Sequence[Tick]
    scale: float
    """Pixels per second; see web.diagrams.axis."""
    operator_actions_y: float
    """The position of the operators' actions, below the lanes of the steps."""


def timeline(
    saga: SagaInstance,
    operations: Sequence[HistoryEntry],
    plan: Sequence[PlannedStep],
    now: datetime,
    operator_actions: Sequence[OperatorAction] = (),
    scale: float | None = None,
) -> Timeline:
    """Lay out a saga's attempts, up to ``now`` while it is active, and the operators' actions on it.

    It fits the page's width unless ``scale`` sets the pixels per second.
    """
    active = saga.status in ACTIVE
    turned_at = next(
        (reached["at"] for reached in saga.state_history if reached["state"] == COMPENSATION_STARTED), None
    )
    turns = [datetime.fromisoformat(turned_at)] if turned_at else []
    retries = [logged.retry_at for logged in operations if logged.retry_at]
    spans = [_span(attempt, now) for logged in operations for attempt in logged.tries()]
    spans += [(due, now) for due in retries if due < now]
    end = max(now, saga.created_at) if active else saga.updated_at
    marked = [saga.created_at, end, *turns, *retries, *(act.at for act in operator_actions)]
    layout = _Layout(saga, axis(spans, marked, GUTTER, PLOT, scale), now)
    x, right = layout.axis.x, layout.axis.end
    rows = layout.rows(operations, plan)
    below = TOP + sum(map(_height, rows))
    acts = [Tick(x(act.at), act.by) for act in operator_actions]
    labels = [lane.label for row in rows for lane in row.lanes if lane.label]
    ends = [label.x + width_of(label.text, LABEL_SIZE) for label in labels if label.anchor == "start"]
    ends += [tick.x + 18 + width_of(tick.text, LABEL_SIZE) for tick in acts]
    return Timeline(
        width=max([right + 60, *ends]) + MARGIN,
        height=below + (LANE + 8 if acts else 0) + BOTTOM,
        left=GUTTER,
        right=right,
        rows=rows,
        compensation_start=x(turns[0]) if turns else None,
        now=x(now) if active else None,
        ticks=_ticks(layout.axis, [saga.created_at, *turns, layout.axis.moments[-1]]),
        idle=layout.axis.cuts,
        operator_actions=acts,
        scale=layout.axis.scale,
        operator_actions_y=below + LANE / 2 + 4,
    )


def _span(attempt: LoggedAttempt, now: datetime) -> tuple[datetime, datetime]:
    return attempt.started_at, max(attempt.finished_at or now, attempt.started_at)


def _height(row: Row) -> float:
    return ROW if len(row.lanes) > 1 else ROW - LANE


def _ticks(drawn: Axis, moments: Sequence[datetime]) -> list[Tick]:
    """Return ticks labelled with the time since the first moment, without those that are too close to another."""
    ticks: list[Tick] = []
    for moment in moments:
        text = f"+{duration((moment - moments[0]).total_seconds())}" if moment > moments[0] else "0"
        if not ticks or drawn.x(moment) - ticks[-1].x > width_of(text, 11) + 12:
            ticks.append(Tick(drawn.x(moment), text))
    return ticks


@dataclass(frozen=True)
class _Layout:
    saga: SagaInstance
    axis: Axis
    now: datetime

    def rows(self, operations: Sequence[HistoryEntry], plan: Sequence[PlannedStep]) -> list[Row]:
        """Return a row for every step, in the order of ``plan``."""
        logged = {entry.key: entry for entry in operations}
        rows: list[Row] = []
        y = TOP
        for step in plan:
            lanes = [self._lane(y, plain(step.name), logged.get((step.name, Operation.ACTION)), False)]
            compensation = logged.get((step.name, Operation.COMPENSATION))
            if step.compensation or compensation:
                name = step.compensation
                title = plain(name) if name else _("compensate %(step)s", step=plain(step.name))
                lanes.append(self._lane(y + LANE, title, compensation, True))
            rows.append(Row(y, lanes))
            y += _height(rows[-1])
        return rows

    def _lane(self, y: float, title: str, logged: HistoryEntry | None, is_compensation: bool) -> Lane:
        segments = list(self._segments(logged)) if logged else []
        return Lane(y, title, is_compensation, segments, self._label(logged, segments) if logged else None)

    def _segments(self, logged: HistoryEntry) -> Iterable[Segment]:
        tries = logged.tries()
        for attempt, next_attempt in zip_longest(tries, tries[1:]):
            mark = icons.of_attempt(attempt)
            yield self._segment(*_span(attempt, self.now), mark.style, _description(attempt, mark))
            until = next_attempt.started_at if next_attempt else logged.retry_at
            if attempt.finished_at and until and until > attempt.finished_at:
                waited = duration((until - attempt.finished_at).total_seconds())
                description = _("%(time)s of waiting for attempt %(n)s", time=waited, n=attempt.number + 1)
                yield self._segment(attempt.finished_at, until, WAIT, description)
        if logged.retry_at and logged.retry_at < self.now:
            mark = icons.running(logged.operation)
            yield self._segment(logged.retry_at, self.now, mark.style, f"{logged.attempts + 1}: {mark.word}")

    def _segment(self, start: datetime, end: datetime, style: str, description: str) -> Segment:
        x = self.axis.x(start)
        min_width = 0.0 if style == WAIT else 4.0
        return Segment(x, max(self.axis.x(end) - x, min_width), style, description)

    def _label(self, logged: HistoryEntry, segments: Sequence[Segment]) -> Label:
        mark = self._mark(logged)
        text = f"{mark.glyph} {self._words(logged, mark)}"
        text_width = width_of(text, LABEL_SIZE)
        left = segments[0].x if segments else GUTTER
        right = segments[-1].x + segments[-1].width if segments else GUTTER
        if right + 6 + text_width > self.axis.end + BESIDE and left - 6 - text_width > GUTTER:
            return Label(left - 6, "end", text, mark.style)
        return Label(right + 6, "start", text, mark.style)

    def _mark(self, logged: HistoryEntry) -> Mark:
        if logged.retry_at and logged.retry_at <= self.now and logged.status == StepStatus.RETRYING:
            return icons.running(logged.operation)
        has_failed = logged.status == StepStatus.FAILED and logged.operation is Operation.ACTION
        if has_failed and self.saga.status == SagaStatus.STUCK and self.saga.state != COMPENSATION_STARTED:
            return icons.STUCK
        return icons.of_operation(logged)

    def _words(self, logged: HistoryEntry, mark: Mark) -> str:
        if logged.retry_at and mark is icons.WAITING:
            return _(
                "attempt %(n)s of %(most)s at %(time)s",
                n=logged.attempts + 1,
                most=logged.max_attempts,
                time=logged.retry_at.strftime("%H:%M:%S"),
            )
        attempts = _("%(n)s attempts", n=logged.attempts) if logged.attempts > 1 else ""
        if mark.style == "skipped":
            return str(mark.word)
        if mark is icons.RESOLVED_MANUALLY:
            return f"{mark.word} · {attempts}"
        duration_text = duration(((logged.finished_at or self.now) - logged.started_at).total_seconds())
        word = "" if mark in (icons.DONE, icons.COMPENSATED, icons.STUCK) else str(mark.word)
        return " · ".join(part for part in (word, duration_text, attempts) if part)


def _description(attempt: LoggedAttempt, mark: Mark) -> str:
    name = _("attempt %(n)s", n=attempt.number) if attempt.number else plain(attempt.step)
    took = duration((attempt.milliseconds or 0) / 1000) if attempt.finished_at else ""
    description = ", ".join(part for part in (name, str(mark.word), took) if part)
    return f"{description}: {attempt.error}" if attempt.error else description
