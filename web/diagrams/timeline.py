"""Lay out a saga's timeline: two lanes per step, action above compensation, on one axis; one segment per attempt."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from durable_sagas.definition import ACTIVE, COMPENSATION_STARTED, Operation, SagaStatus, StepStatus
from durable_sagas.models import OperatorAction, SagaInstance
from web.diagrams.axis import Axis, Cut, axis
from web.diagrams.plan import PlannedStep
from web.diagrams.text import plain, width_of
from web.i18n import translate as _
from web.saga_view import icons
from web.saga_view.durations import duration
from web.saga_view.icons import Mark
from workflows.read_side.saga_history import HistoryEntry, LoggedAttempt

GUTTER, PLOT, MARGIN = 176.0, 740.0, 8.0
TOP, ROW, LANE, BAR = 44.0, 56.0, 24.0, 14.0
BOTTOM = 26.0
BESIDE = 190.0
"""The space for labels on the right of the axis."""
LABEL_SIZE = 12
WAIT, BARE = "wait", "bare"


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
    def bar_y(self) -> float:
        """The top of the lane's segments."""
        return self.y + (LANE - BAR) / 2

    @property
    def middle(self) -> float:
        """The vertical center."""
        return self.y + LANE / 2


@dataclass(frozen=True)
class Row:
    """A step with its lanes."""

    y: float
    service: str | None
    lanes: Sequence[Lane]


@dataclass(frozen=True)
class Tick:
    """A labelled moment of the axis."""

    x: float
    text: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Idle:
    """A shortened period of the axis, and its label."""

    x: float
    width: float
    text: str


@dataclass(frozen=True)
class Timeline:
    """The whole diagram. ``compensation_start`` is when it began to compensate; ``now`` is set while it is active."""

    width: float
    height: float
    left: float
    right: float
    rows: Sequence[Row]
    compensation_start: Tick | None
    now: Tick | None
    ticks: Sequence[Tick]
    idle: Sequence[Idle]
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
    spans = [_span(attempt, now) for logged in operations for attempt in logged.tries()]
    spans += [(due, now) for logged in operations if (due := logged.retry_at) and due < now]
    compensation_started_at = _compensation_started_at(saga)
    marked = [*_marked(saga, operations, compensation_started_at, now), *(act.at for act in operator_actions)]
    drawn = _Drawn(saga, axis(spans, marked, GUTTER, PLOT, scale), now)
    rows = drawn.rows(operations, plan)
    labels = [lane.label for row in rows for lane in row.lanes if lane.label]
    ends = [label.x + width_of(label.text, LABEL_SIZE) for label in labels if label.anchor == "start"]
    below = TOP + sum(_height(row) for row in rows)
    operator_ticks = [Tick(drawn.axis.x(act.at), act.by) for act in operator_actions]
    ends += [tick.x + 18 + width_of(tick.text, LABEL_SIZE) for tick in operator_ticks]
    return Timeline(
        width=max([drawn.axis.end + 60, *ends]) + MARGIN,
        height=below + (LANE + 8 if operator_actions else 0) + BOTTOM,
        left=GUTTER,
        right=drawn.axis.end,
        rows=rows,
        compensation_start=Tick(drawn.axis.x(compensation_started_at), _("compensation starts"))
        if compensation_started_at
        else None,
        now=Tick(drawn.axis.x(now), _("now")) if saga.status in ACTIVE else None,
        ticks=drawn.ticks(compensation_started_at),
        idle=[Idle(cut.x, cut.width, _idle(cut)) for cut in drawn.axis.cuts],
        operator_actions=operator_ticks,
        scale=drawn.axis.scale,
        operator_actions_y=below + LANE / 2 + 4,
    )


def _span(attempt: LoggedAttempt, now: datetime) -> tuple[datetime, datetime]:
    return attempt.started_at, max(attempt.finished_at or now, attempt.started_at)


def _marked(
    saga: SagaInstance, operations: Iterable[HistoryEntry], compensation_started_at: datetime | None, now: datetime
) -> list[datetime]:
    marked = [saga.created_at, *([compensation_started_at] if compensation_started_at else [])]
    if saga.status in ACTIVE:
        marked.append(max(now, saga.created_at))
    else:
        marked.append(saga.updated_at)
    return marked + [due for logged in operations if (due := logged.retry_at)]


def _compensation_started_at(saga: SagaInstance) -> datetime | None:
    return next(
        (
            datetime.fromisoformat(reached["at"])
            for reached in saga.state_history
            if reached["state"] == COMPENSATION_STARTED
        ),
        None,
    )


def _idle(cut: Cut) -> str:
    return _("cut: %(time)s idle", time=duration(cut.seconds))


def _height(row: Row) -> float:
    return ROW if len(row.lanes) > 1 else ROW - LANE


@dataclass(frozen=True)
class _Drawn:
    saga: SagaInstance
    axis: Axis
    now: datetime

    def rows(self, operations: Sequence[HistoryEntry], plan: Sequence[PlannedStep]) -> list[Row]:
        """Return a row for every step, in the order of ``plan``."""
        by_operation = {logged.key: logged for logged in operations}
        compensated = {logged.step for logged in operations if logged.operation is Operation.COMPENSATION}
        rows: list[Row] = []
        y = TOP
        for step in plan:
            action = self._lane(y, plain(step.name), by_operation.get((step.name, Operation.ACTION)), False)
            lanes = [action]
            if step.compensation or step.name in compensated:
                title = (
                    plain(step.compensation) if step.compensation else _("compensate %(step)s", step=plain(step.name))
                )
                lanes.append(self._lane(y + LANE, title, by_operation.get((step.name, Operation.COMPENSATION)), True))
            rows.append(Row(y, step.service, lanes))
            y += _height(rows[-1])
        return rows

    def ticks(self, compensation_started_at: datetime | None) -> list[Tick]:
        """Return ticks for the start, the start of compensation and the end, labelled with the elapsed time."""
        started_at = self.saga.created_at
        shown = [(self.axis.x(started_at), started_at), (self.axis.end, self.axis.moments[-1])]
        if compensation_started_at:
            shown.insert(1, (self.axis.x(compensation_started_at), compensation_started_at))
        ticks: list[Tick] = []
        for x, moment in shown:
            text = f"+{duration((moment - started_at).total_seconds())}" if moment > started_at else "0"
            if not ticks or x - ticks[-1].x > width_of(text, 11) + 12:
                ticks.append(Tick(x, text))
        return ticks

    def _lane(self, y: float, title: str, logged: HistoryEntry | None, is_compensation: bool) -> Lane:
        if logged is None:
            return Lane(y, title, is_compensation, [], None)
        segments = list(self._segments(logged))
        return Lane(y, title, is_compensation, segments, self._label(logged, segments))

    def _segments(self, logged: HistoryEntry) -> Iterable[Segment]:
        tries = logged.tries()
        next_attempts: list[LoggedAttempt | None] = [*tries[1:], None]
        for attempt, next_attempt in zip(tries, next_attempts, strict=True):
            yield self._attempt(logged, attempt)
            if attempt.finished_at and (next_attempt or logged.retry_at):
                until = next_attempt.started_at if next_attempt else logged.retry_at
                if until and until > attempt.finished_at:
                    yield self._wait(attempt.finished_at, until, attempt.number + 1)
        if logged.retry_at and logged.retry_at < self.now:
            mark = icons.running(logged.operation)
            yield self._drawn(logged.retry_at, self.now, mark.style, f"{logged.attempts + 1}: {mark.word}")

    def _attempt(self, logged: HistoryEntry, attempt: LoggedAttempt) -> Segment:
        mark = icons.of_attempt(attempt)
        duration_text = duration((attempt.milliseconds or 0) / 1000) if attempt.finished_at else ""
        parts = [
            _("attempt %(n)s", n=attempt.number) if attempt.number else plain(logged.step),
            str(mark.word),
            duration_text,
        ]
        description = ", ".join(word for word in parts if word)
        start, end = _span(attempt, self.now)
        return self._drawn(start, end, mark.style, f"{description}: {attempt.error}" if attempt.error else description)

    def _wait(self, start: datetime, end: datetime, number: int) -> Segment:
        seconds = duration((end - start).total_seconds())
        return self._drawn(start, end, WAIT, _("%(time)s of waiting for attempt %(n)s", time=seconds, n=number))

    def _drawn(self, start: datetime, end: datetime, style: str, description: str) -> Segment:
        x = self.axis.x(start)
        min_width = 0.0 if style == WAIT else 4.0
        return Segment(x, max(self.axis.x(end) - x, min_width), style, description)

    def _label(self, logged: HistoryEntry, segments: Sequence[Segment]) -> Label:
        mark = self._mark(logged)
        text = f"{mark.glyph} {self._words(logged, mark)}"
        last = segments[-1] if segments else Segment(GUTTER, 0, BARE, "")
        first = segments[0] if segments else last
        text_width = width_of(text, LABEL_SIZE)
        right = last.x + last.width + 6
        if right + text_width > self.axis.end + BESIDE and first.x - 6 - text_width > GUTTER:
            return Label(first.x - 6, "end", text, mark.style)
        return Label(right, "start", text, mark.style)

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
