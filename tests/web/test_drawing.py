"""The layouts of the drawings, without a template: what stands where."""

from itertools import pairwise

import pytest

from app.saga.definition import OperatorActionType, StepStatus
from app.saga.models import OperatorAction
from tests.testkit.told import PLAN, at, done, failure, saga, undone
from web.diagrams import axis as axes
from web.diagrams.axis import axis
from web.diagrams.steps import StepDiagram, step_diagram
from web.diagrams.text import width_of
from web.diagrams.timeline import GUTTER, Lane, Timeline, timeline
from web.saga_view import icons
from web.saga_view.durations import duration

COMPENSATED = [
    done("create_order", 0.01, 0.02),
    done("reserve_stock", 0.03, 0.04),
    done("process_payment", 0.05, 0.06, status=StepStatus.FAILED, attempts=1, error="declined"),
    undone("process_payment", 0.08, 0.09, status=StepStatus.SKIPPED),
    undone("reserve_stock", 0.10, 0.11),
    undone("create_order", 0.12, 0.13),
]


def lanes(drawing: Timeline) -> dict[str, Lane]:
    return {lane.title: lane for row in drawing.rows for lane in row.lanes}


def marks(drawing: StepDiagram) -> dict[str, icons.Mark]:
    return {box.title: box.mark for box in (*drawing.actions, *drawing.undoings)}


def test_later_moments_stand_further_right_and_nothing_is_too_narrow() -> None:
    busy = [(at(0), at(0.001)), (at(0.001), at(0.002)), (at(0.5), at(30)), (at(31), at(31.0001))]
    drawn = axis(busy, [at(0), at(40)], 100, 600)

    assert list(drawn.positions) == sorted(drawn.positions)
    assert drawn.positions[0] == 100
    for begin, end in busy:
        assert drawn.x(end) - drawn.x(begin) >= axes.MIN_WIDTH - 1e-6
    assert drawn.end <= 100 + 600 + 1e-6


def test_long_idleness_is_cut_short_and_says_how_long_it_was() -> None:
    drawn = axis([(at(0), at(1)), (at(7), at(8))], [at(0), at(8)], 0, 500)

    (cut,) = drawn.cuts
    assert cut.seconds == 6
    assert drawn.x(at(1)) == cut.x
    assert drawn.x(at(4)) == pytest.approx(cut.x + cut.width / 2)
    assert cut.width < 6 * drawn.scale


def test_a_longer_idle_time_is_drawn_wider_though_both_are_cut() -> None:
    drawn = axis([(at(0), at(0.01)), (at(0.134), at(0.144)), (at(5.744), at(5.754))], [at(0), at(5.754)], 0, 500)

    short, long = drawn.cuts
    assert (round(short.seconds, 3), round(long.seconds, 1)) == (0.124, 5.6)
    assert long.width > short.width + 30


def test_what_is_drawn_to_a_given_scale_is_as_long_as_that_makes_it() -> None:
    for end in (1.0, 3.0):
        assert axis([(at(0), at(end))], [at(0), at(end)], 0, 500, scale=40).end == pytest.approx(40 * end)


def test_short_idleness_is_drawn_as_long_as_it_was() -> None:
    drawn = axis([(at(0), at(1)), (at(1.5), at(2.5))], [at(0), at(2.5)], 0, 500)

    assert not drawn.cuts
    assert drawn.x(at(1.5)) - drawn.x(at(1)) == pytest.approx(100)


def test_moments_before_and_after_the_axis_stand_at_its_ends() -> None:
    drawn = axis([(at(1), at(2))], [at(1), at(2)], 10, 100)

    assert (drawn.x(at(0)), drawn.x(at(9))) == (10, drawn.end)
    assert axis([], [at(1)], 10, 100).x(at(5)) == 10


def test_steps_not_reached_are_ghosts_and_the_pivot_is_the_point_of_no_return() -> None:
    running = saga("running", current_step="reserve_stock")
    drawing = step_diagram(running, [done("create_order", 0, 0.1)], PLAN)

    assert [box.title for box in drawing.actions] == [step.name.replace("_", " ") for step in PLAN]
    shown = marks(drawing)
    assert shown["create order"] is icons.DONE
    assert {shown[name] for name in ("process payment", "ship stock", "complete order")} == {icons.PENDING}
    assert {shown[name] for name in ("cancel order", "refund payment")} == {icons.NOT_NEEDED}
    assert [box.title for box in drawing.actions if box.current] == ["reserve stock"]
    shipping, handing_over = drawing.actions[3:5]
    assert drawing.no_return_x is not None
    assert shipping.x + shipping.width < drawing.no_return_x < handing_over.x


def test_boxes_stand_in_order_beside_each_other_and_undoings_below_their_actions() -> None:
    drawing = step_diagram(saga("compensated", turned=0.07), COMPENSATED, PLAN)

    for box, following in pairwise(drawing.actions):
        assert box.x + box.width < following.x
    for action, undoing in zip(drawing.actions, drawing.undoings, strict=False):
        assert undoing.x == action.x
        assert undoing.y > action.y + action.height
    assert all(box.x + box.width <= drawing.width for box in drawing.actions)
    assert all(box.y + box.height <= drawing.height for box in drawing.undoings)


def test_a_saga_that_turned_back_shows_the_way_back_from_where_it_failed() -> None:
    drawing = step_diagram(saga("compensated", turned=0.07), COMPENSATED, PLAN)

    shown = marks(drawing)
    assert (shown["process payment"], shown["refund payment"]) == (icons.FAILED, icons.NOTHING_TO_UNDO)
    assert (shown["release stock"], shown["cancel order"]) == (icons.UNDONE, icons.UNDONE)
    assert (shown["arrange shipping"], shown["cancel shipment"]) == (icons.NOT_REACHED, icons.NOT_NEEDED)
    back = [arrow for arrow in drawing.arrows if arrow.style == "undoing"]
    payment = drawing.actions[2]
    assert (back[0].x1, back[0].x2) == (payment.middle, payment.middle)
    assert all(arrow.x2 < arrow.x1 for arrow in back[1:])
    assert len(back) == 3


def test_a_step_that_is_stuck_says_so_where_it_is() -> None:
    gave_up = undone("process_payment", 0.1, 0.2, status=StepStatus.FAILED, attempts=7)
    stuck = saga("stuck", current_step="process_payment", turned=0.07)
    drawing = step_diagram(stuck, [*COMPENSATED[:3], gave_up], PLAN)

    assert marks(drawing)["refund payment"] is icons.STUCK
    assert marks(drawing)["process payment"] is icons.FAILED
    assert [box.title for box in drawing.undoings if box.current] == ["refund payment"]
    assert marks(drawing)["release stock"] is icons.PENDING
    assert [arrow.style for arrow in drawing.arrows if arrow.x2 < arrow.x1] == ["ghost"] * 3


def test_boxes_are_wide_enough_for_what_they_say() -> None:
    drawing = step_diagram(saga("compensated", turned=0.07), COMPENSATED, PLAN)

    for box in (*drawing.actions, *drawing.undoings):
        if box.mark is not icons.NOT_NEEDED:
            assert width_of(f"{box.mark.glyph} {box.mark.word}", 12) < box.width


def test_the_time_line_has_a_row_for_every_step_with_undoing_right_below() -> None:
    drawing = timeline(saga("compensated", turned=0.07), COMPENSATED, PLAN, at(9))

    assert [len(row.lanes) for row in drawing.rows] == [2, 2, 2, 2, 1, 1]
    for row in drawing.rows:
        assert [lane.undoing for lane in row.lanes] == [False, True][: len(row.lanes)]
        for lane, below in pairwise(row.lanes):
            assert below.y > lane.y
    assert not lanes(drawing)["arrange shipping"].segments
    assert drawing.now is None


def test_doing_stands_left_and_undoing_right_of_the_turning_back() -> None:
    drawing = timeline(saga("compensated", turned=0.07), COMPENSATED, PLAN, at(9))

    assert drawing.turning is not None
    for row in drawing.rows:
        for lane in row.lanes:
            for segment in lane.segments:
                left_of_it = segment.x + segment.width <= drawing.turning.x
                assert left_of_it is not lane.undoing
    assert timeline(saga("completed"), COMPENSATED[:2], PLAN, at(9)).turning is None


def test_every_attempt_is_a_segment_and_waiting_shows_between_them() -> None:
    failures = [failure(1, 0.1, 0.2, retry_at=1), failure(2, 1, 1.1, retry_at=3)]
    retried = done("reserve_stock", 0.1, 3.1, last_started_at=at(3), attempts=3, failures=failures)
    drawing = timeline(saga("running", current_step="process_payment"), [retried], PLAN, at(4))

    segments = lanes(drawing)["reserve stock"].segments
    assert [segment.style for segment in segments] == ["failed", "wait", "failed", "wait", "done"]
    for segment, following in pairwise(segments):
        assert segment.x + segment.width <= following.x + 1e-6
    assert "attempt 1" in segments[0].says
    assert "unavailable" in segments[0].says
    assert all(segment.width >= 4 for segment in segments)


def test_what_took_no_time_at_all_can_be_seen_too() -> None:
    by_hand = undone("process_payment", 0.5, 0.5, status=StepStatus.BY_HAND, done_by="Ann")
    drawing = timeline(saga("compensated", turned=0.07), [*COMPENSATED[:3], by_hand], PLAN, at(9))

    assert [segment.width for segment in lanes(drawing)["refund payment"].segments] == [4]


def test_a_saga_that_was_often_resumed_gets_wider_and_not_illegible() -> None:
    failures = [failure(number, number, number + 0.01, retry_at=number + 1) for number in range(1, 141)]
    often = undone("process_payment", 1, 141, status=StepStatus.FAILED, attempts=140, failures=failures)
    stuck = saga("stuck", current_step="process_payment", turned=0.07, until=141)
    drawing = timeline(stuck, [*COMPENSATED[:3], often], PLAN, at(999))

    segments = [segment for segment in lanes(drawing)["refund payment"].segments if segment.style == "failed"]
    assert len(segments) == 140
    assert all(one.x + one.width <= following.x for one, following in pairwise(segments))


def test_waiting_for_a_retry_says_which_and_when_and_reaches_into_the_future() -> None:
    failures = [failure(1, 0.1, 0.2, retry_at=6)]
    waiting = done("reserve_stock", 0.1, 0.2, status=StepStatus.RETRYING, failures=failures)
    drawing = timeline(saga("running", current_step="reserve_stock"), [waiting], PLAN, at(2))

    lane = lanes(drawing)["reserve stock"]
    assert [segment.style for segment in lane.segments] == ["failed", "wait"]
    assert drawing.now is not None
    assert drawing.now.x < lane.segments[-1].x + lane.segments[-1].width
    assert lane.label is not None
    assert lane.label.text == "◷ attempt 2 of 3 at 12:00:06"


def test_a_retry_that_is_due_counts_as_under_way() -> None:
    failures = [failure(1, 0.1, 0.2, retry_at=1)]
    due = done("reserve_stock", 0.1, 0.2, status=StepStatus.RETRYING, failures=failures)
    drawing = timeline(saga("running", current_step="reserve_stock"), [due], PLAN, at(2))

    assert [segment.style for segment in lanes(drawing)["reserve stock"].segments] == ["failed", "wait", "running"]


def test_what_operators_did_stands_on_a_lane_of_its_own() -> None:
    acts = [
        OperatorAction(by="Ann", act=OperatorActionType.RESUME, at=at(60)),
        OperatorAction(by="Bob", act=OperatorActionType.RESUME, at=at(90)),
    ]
    stuck = saga("stuck", current_step="process_payment", turned=0.07)
    drawing = timeline(stuck, COMPENSATED[:4], PLAN, at(99), acts)

    assert [tick.text for tick in drawing.acts] == ["Ann", "Bob"]
    assert drawing.turning is not None
    assert drawing.turning.x < drawing.acts[0].x < drawing.acts[1].x < drawing.width
    last = drawing.rows[-1].lanes[-1]
    assert last.y < drawing.acts_y < drawing.height


def test_idle_time_is_marked_with_its_length() -> None:
    told = [done("create_order", 0, 0.1), done("reserve_stock", 6.1, 6.2)]
    drawing = timeline(saga("completed", until=6.2), told, PLAN, at(9))

    assert [idle.text for idle in drawing.idle] == ["cut: 6.0 s idle"]


def test_labels_stand_beside_the_bars_of_their_lane() -> None:
    drawing = timeline(saga("compensated", turned=0.07), COMPENSATED, PLAN, at(9))

    for lane in lanes(drawing).values():
        if lane.label is None:
            continue
        wide = width_of(lane.label.text, 12)
        begin = lane.label.x - wide if lane.label.anchor == "end" else lane.label.x
        assert begin >= GUTTER
        assert begin + wide <= drawing.width
        for segment in lane.segments:
            assert begin >= segment.x + segment.width or begin + wide <= segment.x


def test_a_saga_that_was_only_just_accepted_can_be_drawn() -> None:
    pending = saga("pending", current_step="create_order", until=0)

    assert timeline(pending, [], PLAN, at(0)).rows
    assert step_diagram(pending, [], PLAN).actions[0].current


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "<1 ms"),
        (0.0004, "<1 ms"),
        (0.012, "12 ms"),
        (1.44, "1.4 s"),
        (12.3, "12 s"),
        (180, "3 min"),
        (7200, "2 h"),
        (5e5, "6 d"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_japanese_takes_more_room_than_english() -> None:
    assert width_of("補償中", 10) > width_of("abc", 10)
