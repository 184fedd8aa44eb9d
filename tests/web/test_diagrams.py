"""The layouts of the drawings, without a template: what stands where; and who said what to whom."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas.definition import Operation, SagaStatus, StepStatus
from durable_sagas.events import delivery_of
from durable_sagas.ids import new_id
from durable_sagas.models import SagaInstance
from tests.testkit.messages import Clock, Post
from web.diagrams import axis as axes
from web.diagrams.axis import axis
from web.diagrams.plan import PlannedStep
from web.diagrams.sequence import sequence_diagram
from web.diagrams.steps import StepDiagram, step_diagram
from web.diagrams.timeline import GUTTER, Lane, Timeline, timeline
from web.saga_view import icons
from web.text import duration, width_of
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place
from workflows.read_side import event_flow, queries
from workflows.read_side.event_flow import Outcome, PublishedEvent
from workflows.read_side.saga_history import HistoryEntry

START = datetime(2026, 1, 1, 12, tzinfo=UTC)

PLAN = (
    PlannedStep("create_order", "orders", "cancel_order"),
    PlannedStep("reserve_stock", "inventory", "release_stock"),
    PlannedStep("process_payment", "payments", "refund_payment"),
    PlannedStep("arrange_shipping", "shipping", "cancel_shipment", pivot=True),
    PlannedStep("ship_stock", "inventory"),
    PlannedStep("complete_order", "orders"),
)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def saga(status: str, current_step: str | None = None, *, until: float = 1) -> SagaInstance:
    """Return a saga's row, which was last changed at ``until``; one that is stuck or compensated turned back early."""
    history: list[Any] = [{"state": "STARTED", "at": START.isoformat()}]
    if status in {"stuck", "compensated"}:
        history.append({"state": "COMPENSATION_STARTED", "at": at(0.07).isoformat()})
    return SagaInstance(
        id=new_id(),
        saga_type="order",
        aggregate_id="order-1",
        status=SagaStatus(status),
        state=history[-1]["state"],
        current_step=current_step,
        steps=[step.name for step in PLAN],
        payload={},
        state_history=history,
        created_at=START,
        updated_at=at(until),
    )


def done(step: str, begin: float, end: float, **changes: Any) -> HistoryEntry:
    """Return an operation that was done at its first attempt, unless ``changes`` say otherwise."""
    usual = {"operation": Operation.ACTION, "status": StepStatus.COMPLETED, "attempts": 1, "last_started_at": at(begin)}
    return HistoryEntry(**{"step": step, "started_at": at(begin), "finished_at": at(end), **usual, **changes})


def undone(step: str, begin: float, end: float, **changes: Any) -> HistoryEntry:
    return done(step, begin, end, operation=Operation.COMPENSATION, **changes)


def failure(number: int, begin: float, end: float, retry_at: float | None = None) -> dict[str, Any]:
    """Return a failed attempt as the log keeps it."""
    again = {} if retry_at is None else {"retry_at": at(retry_at).isoformat(), "most": 3}
    moments = {"started_at": at(begin).isoformat(), "finished_at": at(end).isoformat()}
    return {"attempt": number, "error": "unavailable", **moments, **again}


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
    return {box.title: box.mark for box in (*drawing.actions, *drawing.compensations)}


def test_later_moments_stand_further_right_and_nothing_is_too_narrow() -> None:
    busy = [(at(0), at(0.001)), (at(0.001), at(0.002)), (at(0.5), at(30)), (at(31), at(31.0001))]
    drawn = axis(busy, [at(0), at(40)], 100, 600)

    assert list(drawn.positions) == sorted(drawn.positions)
    assert drawn.positions[0] == 100
    for begin, end in busy:
        assert drawn.x(end) - drawn.x(begin) >= axes.MIN_WIDTH - 1e-6
    assert drawn.end <= 100 + 600 + 1e-6
    assert (drawn.x(at(-9)), drawn.x(at(99))) == (100, drawn.end), "what is before or after stands at its ends"
    assert axis([], [at(1)], 10, 100).x(at(5)) == 10
    for length in (1.0, 3.0):
        assert axis([(at(0), at(length))], [at(0), at(length)], 0, 500, scale=40).end == pytest.approx(40 * length)


def test_long_idleness_is_cut_short_and_says_how_long_it_was() -> None:
    drawn = axis([(at(0), at(1)), (at(7), at(8))], [at(0), at(8)], 0, 500)
    short = axis([(at(0), at(1)), (at(1.5), at(2.5))], [at(0), at(2.5)], 0, 500)

    (cut,) = drawn.cuts
    assert cut.seconds == 6
    assert drawn.x(at(1)) == cut.x
    assert drawn.x(at(4)) == pytest.approx(cut.x + cut.width / 2)
    assert cut.width < 6 * drawn.scale
    assert not short.cuts
    assert short.x(at(1.5)) - short.x(at(1)) == pytest.approx(100)
    logged = [done("create_order", 0, 0.1), done("reserve_stock", 6.1, 6.2)]
    drawing = timeline(saga("completed", until=6.2), logged, PLAN, at(9))
    assert [idle.seconds for idle in drawing.idle] == [6]


def test_steps_not_reached_are_ghosts_and_the_pivot_is_the_point_of_no_return() -> None:
    running = saga("running", "reserve_stock")
    drawing = step_diagram(running, [done("create_order", 0, 0.1)], PLAN)

    assert [box.title for box in drawing.actions] == [step.name.replace("_", " ") for step in PLAN]
    shown = marks(drawing)
    assert shown["create order"] is icons.DONE
    assert {shown[name] for name in ("process payment", "ship stock", "complete order")} == {icons.PENDING}
    assert {shown[name] for name in ("cancel order", "refund payment")} == {icons.NOT_NEEDED}
    assert [box.title for box in drawing.actions if box.current] == ["reserve stock"]
    shipping, handing_over = drawing.actions[3:5]
    assert drawing.pivot_x is not None
    assert shipping.x + shipping.width < drawing.pivot_x < handing_over.x


def test_undoings_stand_below_their_actions_and_lead_back_from_where_it_failed() -> None:
    drawing = step_diagram(saga("compensated"), COMPENSATED, PLAN)

    for box, following in pairwise(drawing.actions):
        assert box.x + box.width < following.x
    for action, undoing in zip(drawing.actions, drawing.compensations, strict=False):
        assert undoing.x == action.x
        assert undoing.y > action.y + action.height
    for box in (*drawing.actions, *drawing.compensations):
        assert box.x + box.width <= drawing.width
        assert box.y + box.height <= drawing.height
        # wide enough for what it says
        assert box.mark is icons.NOT_NEEDED or width_of(f"{box.mark.glyph} {box.mark.word}", 12) < box.width
    assert width_of("補償中", 10) > width_of("abc", 10)
    shown = marks(drawing)
    assert (shown["process payment"], shown["refund payment"]) == (icons.FAILED, icons.NOTHING_TO_COMPENSATE)
    assert (shown["release stock"], shown["arrange shipping"]) == (icons.COMPENSATED, icons.NOT_REACHED)
    first, *back = [arrow for arrow in drawing.arrows if arrow.style == "undoing"]
    assert first.x1 == first.x2 == drawing.actions[2].middle
    assert [arrow.x2 < arrow.x1 for arrow in back] == [True, True]


def test_the_time_line_has_a_row_for_every_step_with_undoing_below_and_right_of_the_turning_back() -> None:
    drawing = timeline(saga("compensated"), COMPENSATED, PLAN, at(9))

    assert [len(row.lanes) for row in drawing.rows] == [2, 2, 2, 2, 1, 1]
    assert not lanes(drawing)["arrange shipping"].segments
    assert drawing.now is None
    assert drawing.compensation_start is not None
    for row in drawing.rows:
        assert [lane.is_compensation for lane in row.lanes] == [False, True][: len(row.lanes)]
        for lane, below in pairwise(row.lanes):
            assert below.y > lane.y
    for lane in lanes(drawing).values():
        for segment in lane.segments:
            assert (segment.x + segment.width <= drawing.compensation_start) is not lane.is_compensation
        if lane.label:  # beside the bars of its lane
            wide = width_of(lane.label.text, 12)
            begin = lane.label.x - wide if lane.label.anchor == "end" else lane.label.x
            assert GUTTER <= begin <= drawing.width - wide
            for segment in lane.segments:
                assert begin >= segment.x + segment.width or begin + wide <= segment.x
    assert timeline(saga("completed"), COMPENSATED[:2], PLAN, at(9)).compensation_start is None
    pending = saga("pending", "create_order", until=0)  # only just accepted
    assert timeline(pending, [], PLAN, at(0)).rows
    assert step_diagram(pending, [], PLAN).actions[0].current


def test_every_attempt_is_a_segment_and_waiting_shows_between_them() -> None:
    failures = [failure(1, 0.1, 0.2, retry_at=1), failure(2, 1, 1.1, retry_at=3)]
    retried = done("reserve_stock", 0.1, 3.1, last_started_at=at(3), attempts=3, failures=failures)
    drawing = timeline(saga("running", "process_payment"), [retried], PLAN, at(4))

    segments = lanes(drawing)["reserve stock"].segments
    assert [segment.style for segment in segments] == ["failed", "wait", "failed", "wait", "done"]
    for segment, following in pairwise(segments):
        assert segment.x + segment.width <= following.x + 1e-6
    assert "attempt 1" in segments[0].description
    assert "unavailable" in segments[0].description
    assert all(segment.width >= 4 for segment in segments)
    by_hand = undone("process_payment", 0.5, 0.5, status=StepStatus.BY_HAND, done_by="Ann")
    at_once = timeline(saga("compensated"), [*COMPENSATED[:3], by_hand], PLAN, at(9))
    assert [segment.width for segment in lanes(at_once)["refund payment"].segments] == [4], "it can be seen too"


def test_waiting_for_a_retry_says_which_and_when_and_reaches_into_the_future() -> None:
    waiting = done("reserve_stock", 0.1, 0.2, status=StepStatus.RETRYING, failures=[failure(1, 0.1, 0.2, retry_at=6)])
    drawing, later = (timeline(saga("running", "reserve_stock"), [waiting], PLAN, at(now)) for now in (2, 7))

    lane = lanes(drawing)["reserve stock"]
    assert [segment.style for segment in lane.segments] == ["failed", "wait"]
    assert [segment.style for segment in lanes(later)["reserve stock"].segments] == ["failed", "wait", "running"]
    assert drawing.now
    assert drawing.now < lane.segments[-1].x + lane.segments[-1].width
    assert lane.label
    assert lane.label.text == "◷ attempt 2 of 3 at 12:00:06"


def test_durations_are_said_as_people_say_them() -> None:
    seconds = (-1, 0.0004, 0.012, 1.44, 12.3, 180, 7200, 5e5)

    assert [duration(one) for one in seconds] == ["<1 ms", "<1 ms", "12 ms", "1.4 s", "12 s", "3 min", "2 h", "6 d"]


# ---- the sequence diagram of a choreographed saga


def order(**simulate: str) -> PlacedOrder:
    return place(NewOrder((Item("item-001", 1),), Pattern.CHOREOGRAPHY, simulate=tuple(simulate.items())))


def said_in(placed: PlacedOrder) -> list[PublishedEvent]:
    return event_flow.of(queries.saga(placed.saga_id))


def heard(said: list[PublishedEvent], event_type: str) -> dict[str, tuple[Outcome, str | None]]:
    found = next(one for one in said if one.event.event_type == event_type)
    return {one.service: (one.outcome, one.command) for one in found.deliveries}


def test_every_event_is_said_by_its_service_and_told_to_whoever_subscribed(here: Runtime) -> None:
    said = said_in(order())

    services = {"OrderCreated": "orders", "OrderCompleted": "orders", "PaymentCompleted": "payments"}
    services |= {"StockReserved": "inventory", "StockShipped": "inventory", "ShippingArranged": "shipping"}
    assert {one.event.event_type: one.service for one in said} == services
    for one in said:
        told = sagas.events.subscribers(one.event.event_type, "order-choreography") + sagas.events.subscribers(
            one.event.event_type, None
        )
        assert [found.task_name for found in one.deliveries] == told
        assert [found.task_id for found in one.deliveries] == [delivery_of(one.event.id, name) for name in told]
    assert [one.event.sequence for one in said] == [1, 2, 3, 4, 5, 6]
    assert [one.event.event_type for one in said if one.is_pivot] == ["ShippingArranged"]
    assert heard(said, "OrderCreated") == {
        "inventory": (Outcome.ACTED, "reserve_stock"),
        "payments": (Outcome.ACTED, "process_payment"),
    }
    # who waited for the other event did nothing
    joined = [heard(said, name)["shipping"][0] for name in ("StockReserved", "PaymentCompleted")]
    assert sorted(joined) == [Outcome.ACTED, Outcome.NOTHING]
    assert heard(said, "OrderCompleted") == {"notifications": (Outcome.NOTIFIED, None)}


def test_what_nobody_has_done_yet_is_awaited(post: Post) -> None:
    placed = order()
    assert {outcome for outcome, _ in heard(said_in(placed), "OrderCreated").values()} == {Outcome.PENDING}

    post.deliver("inventory.reserve_on_order_created")

    assert heard(said_in(placed), "OrderCreated")["inventory"] == (Outcome.ACTED, "reserve_stock")
    assert heard(said_in(placed), "OrderCreated")["payments"] == (Outcome.PENDING, "process_payment")
    view = queries.saga(placed.saga_id)
    assert [logged.step for logged in event_flow.pending_operations(view, event_flow.of(view))] == ["process_payment"]
    post.deliver_all()
    assert not [one for said in said_in(placed) for one in said.deliveries if one.outcome is Outcome.PENDING]


def test_who_acted_on_a_message_that_was_sent_again_is_found_with_the_task_that_acted(post: Post, clock: Clock) -> None:
    placed = order()
    [first] = [message for message in post.waiting if message.task == "inventory.reserve_on_order_created"]
    post.waiting.clear()
    clock.forward(1.5)
    sagas.sweep()
    post.deliver("inventory.reserve_on_order_created")

    [reserved] = [one for one in said_in(placed)[0].deliveries if one.service == "inventory"]
    [logged] = [one for one in queries.saga(placed.saga_id).operations if one.step == "reserve_stock"]

    assert reserved.outcome is Outcome.ACTED
    assert reserved.task_id == logged.task_id != first.options["task_id"]


def test_lifelines_stand_apart_and_events_follow_from_top_to_bottom(here: Runtime) -> None:
    said = said_in(order(shipping="decline", payments="undo-fail:2"))
    drawing = sequence_diagram(said)

    assert list(drawing.lifelines) == ["orders", "inventory", "payments", "shipping", "notifications"]
    messages = [message for one in drawing.events for message in one.messages]
    assert len(messages) == sum(len(one.deliveries) for one in said), "each subscriber has an arrow of its own"
    assert {"✕ arrange shipping", "↶✓ refund payment ×3"} <= {message.text for message in messages}
    assert heard(said, "ShippingFailed") == {
        "payments": (Outcome.ACTED, "refund_payment"),
        "inventory": (Outcome.ACTED, "release_stock"),
    }
    widest = max(message.chip_width for message in messages)
    for x, following in pairwise(drawing.lifelines.values()):
        assert following - x > widest
    ys = [y for one in drawing.events for y in (one.y, *(message.chip_y for message in one.messages))]
    assert ys == sorted(ys)
    assert ys[-1] < drawing.height
    assert all(x < drawing.width for x in drawing.lifelines.values())
