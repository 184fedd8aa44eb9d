"""The layouts of the drawings of real sagas, without a template: what stands where; and who said what to whom."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NoReturn

import pytest
from celery import Task
from celery.exceptions import Retry
from flask import Flask

from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas.events import delivery_of
from tests.testkit.messages import Clock, Post
from web.diagrams import axis as axes
from web.diagrams.axis import axis
from web.diagrams.sequence import sequence_diagram
from web.diagrams.timeline import GUTTER
from web.saga_view import icons
from web.saga_view.detail import SagaDetail, load
from web.text import duration, width_of
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place
from workflows.read_side import event_flow, queries
from workflows.read_side.event_flow import Outcome, PublishedEvent


def place_order(pattern: Pattern = Pattern.CHOREOGRAPHY, **simulate: str) -> PlacedOrder:
    return place(NewOrder((Item("item-001", 1),), pattern, simulate=tuple(simulate.items())))


def at(seconds: float) -> datetime:
    return datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(seconds=seconds)


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


ORDERS: dict[str, tuple[dict[str, str], dict[str, icons.Mark]]] = {
    "completed": ({}, {"create order": icons.DONE, "cancel order": icons.NOT_NEEDED}),
    "never charged": (
        {"payments": "decline"},
        {"process payment": icons.FAILED, "refund payment": icons.NOTHING_TO_COMPENSATE},
    ),
    "compensated": (
        {"shipping": "decline", "inventory": "fail:2"},
        {"release stock": icons.COMPENSATED, "ship stock": icons.NOT_REACHED},
    ),
    "stuck": (
        {"shipping": "decline", "payments": "undo-fail:99"},
        {"refund payment": icons.STUCK, "release stock": icons.PENDING},
    ),
}
"""What is broken in an order, and how some of its steps are marked then."""


@pytest.fixture(params=ORDERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TickingClock(Clock):
    """A clock that goes on by a centisecond whenever it is looked at: every run draws the same."""

    def __call__(self) -> datetime:
        self.forward(0.01)
        return self.time


@pytest.fixture
def detail(name: str, here: Runtime, flask_app: Flask) -> SagaDetail:
    here.now = TickingClock()
    placed = place_order(Pattern.ORCHESTRATION, **ORDERS[name][0])
    with flask_app.test_request_context():
        return load(placed.saga_id)


def test_steps_stand_apart_with_their_compensations_below_and_arrows_that_lead_back(
    name: str, detail: SagaDetail
) -> None:
    drawing = detail.steps

    assert drawing
    for box, following in pairwise(drawing.actions):
        assert box.x + box.width < following.x
    for action, undoing in zip(drawing.actions, drawing.compensations, strict=False):
        assert undoing.x == action.x
        assert undoing.y > action.y + action.height
    boxes = (*drawing.actions, *drawing.compensations)
    for box in boxes:
        assert box.x + box.width <= drawing.width
        assert box.y + box.height <= drawing.height
        # wide enough for what it says
        assert box.mark is icons.NOT_NEEDED or width_of(f"{box.mark.glyph} {box.mark.word}", 12) < box.width
    assert ORDERS[name][1].items() <= {box.title: box.mark for box in boxes}.items()
    assert [box.title for box in boxes if box.current] == (["refund payment"] if name == "stuck" else [])
    shipping, handing_over = drawing.actions[3:5]
    assert drawing.pivot_x
    assert shipping.x + shipping.width < drawing.pivot_x < handing_over.x
    back = [arrow for arrow in drawing.arrows if arrow.style == "undoing"]
    assert all(arrow.x2 <= arrow.x1 for arrow in back)
    assert bool(back) is (name != "completed")
    assert width_of("補償中", 10) > width_of("abc", 10)


def test_the_time_line_has_a_row_for_every_step_with_undoing_below_and_right_of_the_turning_back(
    name: str, detail: SagaDetail
) -> None:
    drawing = detail.timeline
    turned = drawing.compensation_start

    assert [len(row.lanes) for row in drawing.rows] == [2, 2, 2, 2, 1, 1]
    assert (turned is None) is (name == "completed")
    for row in drawing.rows:
        assert [lane.is_compensation for lane in row.lanes] == [False, True][: len(row.lanes)]
        for lane, below in pairwise(row.lanes):
            assert below.y > lane.y
    for lane in (lane for row in drawing.rows for lane in row.lanes):
        for segment, following in pairwise(lane.segments):
            assert segment.x + segment.width <= following.x + 1e-6
        for segment in lane.segments:
            assert segment.width >= 4 or segment.style == "wait", "it can be seen"
            assert turned is None or (segment.x + segment.width <= turned) is not lane.is_compensation
        if lane.label:  # beside the bars of its lane
            wide = width_of(lane.label.text, 12)
            begin = lane.label.x - wide if lane.label.anchor == "end" else lane.label.x
            assert GUTTER <= begin <= drawing.width - wide
            for segment in lane.segments:
                assert begin >= segment.x + segment.width or begin + wide <= segment.x


def test_every_attempt_is_a_segment_and_waiting_for_the_next_reaches_into_the_future(
    flask_app: Flask, post: Post, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(_task: object, **_: object) -> NoReturn:  # run in the caller a retry would be made at once
        raise Retry

    monkeypatch.setattr(Task, "retry", lose)
    placed = place_order(Pattern.ORCHESTRATION, inventory="fail:1")

    def look() -> SagaDetail:
        with flask_app.test_request_context():
            return load(placed.saga_id)

    accepted = look()
    post.deliver("orders.create_order")
    post.deliver("inventory.reserve_stock")
    waiting = look().timeline
    clock.forward(60)
    due = look().timeline

    assert accepted.timeline.rows
    assert accepted.steps
    assert accepted.steps.actions[0].current
    lanes = [timeline.rows[1].lanes[0] for timeline in (waiting, due)]
    assert [segment.style for segment in lanes[0].segments] == ["failed", "wait"]
    assert [segment.style for segment in lanes[1].segments] == ["failed", "wait", "running"]
    failed, wait = lanes[0].segments
    assert "attempt 1" in failed.description
    assert "unavailable" in failed.description
    assert waiting.now
    assert waiting.now < wait.x + wait.width
    assert lanes[0].label
    assert lanes[0].label.text.startswith("◷ attempt 2 of ")


def test_durations_are_said_as_people_say_them() -> None:
    seconds = (-1, 0.0004, 0.012, 1.44, 12.3, 180, 7200, 5e5)

    assert [duration(one) for one in seconds] == ["<1 ms", "<1 ms", "12 ms", "1.4 s", "12 s", "3 min", "2 h", "6 d"]


# ---- the sequence diagram of a choreographed saga


def said_in(placed: PlacedOrder) -> list[PublishedEvent]:
    return event_flow.of(queries.saga(placed.saga_id))


def heard(said: list[PublishedEvent], event_type: str) -> dict[str, tuple[Outcome, str | None]]:
    found = next(one for one in said if one.event.event_type == event_type)
    return {one.service: (one.outcome, one.command) for one in found.deliveries}


def test_every_event_is_said_by_its_service_and_told_to_whoever_subscribed(here: Runtime) -> None:
    said = said_in(place_order())

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
    placed = place_order()
    assert {outcome for outcome, _ in heard(said_in(placed), "OrderCreated").values()} == {Outcome.PENDING}

    post.deliver("inventory.reserve_on_order_created")

    assert heard(said_in(placed), "OrderCreated")["inventory"] == (Outcome.ACTED, "reserve_stock")
    assert heard(said_in(placed), "OrderCreated")["payments"] == (Outcome.PENDING, "process_payment")
    view = queries.saga(placed.saga_id)
    assert [logged.step for logged in event_flow.pending_operations(view, event_flow.of(view))] == ["process_payment"]
    post.deliver_all()
    assert not [one for said in said_in(placed) for one in said.deliveries if one.outcome is Outcome.PENDING]


def test_who_acted_on_a_message_that_was_sent_again_is_found_with_the_task_that_acted(post: Post, clock: Clock) -> None:
    placed = place_order()
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
    said = said_in(place_order(shipping="decline", payments="undo-fail:2"))
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
