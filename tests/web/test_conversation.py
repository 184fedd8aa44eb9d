"""Who said what to whom in a choreographed saga, and the sequence diagram of it."""

from itertools import pairwise

import pytest

from app import events
from app.events import delivery_of, subscribers
from app.messages import EventType
from app.runtime import Runtime
from app.saga import operations, recovery
from tests.testkit.messages import Clock, Post, run
from web.diagrams.sequence import sequence_diagram
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place
from workflows.read_side import event_flow, queries
from workflows.read_side.event_flow import Outcome, Said


def order(pattern: Pattern = Pattern.CHOREOGRAPHY, **simulate: str) -> PlacedOrder:
    return place(NewOrder((Item("item-001", 1),), pattern, simulate=tuple(simulate.items())))


def said_in(placed: PlacedOrder) -> list[Said]:
    return event_flow.of(queries.saga(placed.saga_id))


def heard(said: list[Said], event_type: str) -> dict[str, tuple[Outcome, str | None]]:
    found = next(one for one in said if one.event.event_type == event_type)
    return {one.service: (one.outcome, one.command) for one in found.heard}


def test_every_event_is_said_by_its_service_and_told_to_whoever_subscribed(here: Runtime) -> None:
    said = said_in(order())

    assert {one.event.event_type: one.service for one in said} == {
        "OrderCreated": "orders",
        "StockReserved": "inventory",
        "PaymentCompleted": "payments",
        "ShippingArranged": "shipping",
        "OrderCompleted": "orders",
        "StockShipped": "inventory",
    }
    for one in said:
        told = subscribers(one.event.event_type, "order-choreography") + subscribers(one.event.event_type, None)
        assert [found.task_name for found in one.heard] == told
        assert [found.task_id for found in one.heard] == [delivery_of(one.event.id, name) for name in told]
    assert [one.event.sequence for one in said] == [1, 2, 3, 4, 5, 6]
    assert [one.event.event_type for one in said if one.no_return] == ["ShippingArranged"]


def test_who_acted_is_told_from_who_waited_for_another_event(here: Runtime) -> None:
    said = said_in(order())

    assert heard(said, "OrderCreated") == {
        "inventory": (Outcome.ACTED, "reserve_stock"),
        "payments": (Outcome.ACTED, "process_payment"),
    }
    joined = [heard(said, name)["shipping"][0] for name in ("StockReserved", "PaymentCompleted")]
    assert sorted(joined) == [Outcome.ACTED, Outcome.NOTHING]
    assert heard(said, "OrderCompleted") == {"notifications": (Outcome.TOLD, None)}


def test_what_nobody_has_done_yet_is_awaited(post: Post) -> None:
    placed = order()
    assert {outcome for outcome, _ in heard(said_in(placed), "OrderCreated").values()} == {Outcome.AWAITED}

    post.deliver("inventory.reserve_on_order_created")

    assert heard(said_in(placed), "OrderCreated")["inventory"] == (Outcome.ACTED, "reserve_stock")
    assert heard(said_in(placed), "OrderCreated")["payments"] == (Outcome.AWAITED, "process_payment")
    view = queries.saga(placed.saga_id)
    assert [logged.step for logged in event_flow.under_way(view, event_flow.of(view))] == ["process_payment"]
    post.deliver_all()
    assert not [one for said in said_in(placed) for one in said.heard if one.outcome is Outcome.AWAITED]


def test_who_acted_on_a_message_that_was_sent_again_is_found_with_the_task_that_acted(post: Post, clock: Clock) -> None:
    placed = order()
    [first] = [message for message in post.waiting if message.task == "inventory.reserve_on_order_created"]
    post.waiting.clear()
    clock.forward(1.5)
    recovery.sweep()
    post.deliver("inventory.reserve_on_order_created")

    [reserved] = [one for one in said_in(placed)[0].heard if one.service == "inventory"]
    [logged] = [one for one in queries.saga(placed.saga_id).operations if one.step == "reserve_stock"]

    assert reserved.outcome is Outcome.ACTED
    assert reserved.task_id == logged.task_id != first.options["task_id"]


def test_what_had_been_done_for_another_event_is_not_said_to_be_done_twice(post: Post) -> None:
    placed = order(shipping="decline")
    post.deliver("inventory.reserve_on_order_created")
    post.deliver("payments.charge_on_order_created")
    post.deliver_all()

    joined = [heard(said_in(placed), name)["shipping"] for name in ("StockReserved", "PaymentCompleted")]

    assert sorted(outcome for outcome, _ in joined) in (
        [Outcome.ACTED, Outcome.AGAIN],
        [Outcome.ACTED, Outcome.NOTHING],
    )


def test_undoing_is_told_by_the_name_of_the_compensation(here: Runtime) -> None:
    said = said_in(order(shipping="decline"))

    assert heard(said, "ShippingFailed") == {
        "payments": (Outcome.ACTED, "refund_payment"),
        "inventory": (Outcome.ACTED, "release_stock"),
    }


def test_who_acted_on_more_than_it_was_told_of_is_named_by_what_it_did(post: Post) -> None:
    placed = order(shipping="decline")
    while "orders.cancel_when_settled" not in post.names():
        post.deliver(post.names()[0])
    early = post.take("orders.cancel_when_settled")
    while "orders.cancel_when_settled" not in post.names():
        post.deliver(post.names()[0])
    run(early)  # by now both have been settled

    told = [heard(said_in(placed), name)["orders"] for name in ("PaymentRefunded", "StockReleased")]

    assert sorted(told) == [(Outcome.ACTED, "cancel_order"), (Outcome.AGAIN, "cancel_order")]


def test_a_deadline_is_kept_by_the_service_that_opened_the_saga(post: Post, clock: Clock) -> None:
    placed = order()
    clock.forward(60)
    recovery.sweep()

    said = said_in(placed)

    assert [(one.event.event_type, one.service) for one in said] == [
        ("OrderCreated", "orders"),
        ("OrderTimedOut", "orders"),
    ]
    assert heard(said, "OrderTimedOut")["shipping"][0] is Outcome.AWAITED


def test_a_cancellation_asked_for_is_told_too(post: Post) -> None:
    placed = order()
    operations.cancel(placed.saga_id)

    assert [one.event.event_type for one in said_in(placed)] == ["OrderCreated", "OrderCancelRequested"]


def test_the_drawing_follows_the_live_registry(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = order()
    more = {**events._subscriptions}
    event_type = EventType("StockShipped")
    more[event_type] = [*more.get(event_type, []), events.Subscription("archive.keep", None)]
    monkeypatch.setattr(events, "_subscriptions", more)

    drawing = sequence_diagram(said_in(placed))

    assert drawing.lifelines[-1].service == "archive"
    shipped = drawing.utterances[-1]
    assert [message.x2 for message in shipped.messages] == [drawing.lifelines[-1].x]


def test_lifelines_stand_apart_and_events_follow_from_top_to_bottom(here: Runtime) -> None:
    drawing = sequence_diagram(said_in(order(shipping="decline", payments="undo-fail:2")))

    services = [line.service for line in drawing.lifelines]
    assert services == ["orders", "inventory", "payments", "shipping", "notifications"]
    widest = max(message.chip.width for one in drawing.utterances for message in one.messages)
    for line, following in pairwise(drawing.lifelines):
        assert following.x - line.x > widest
    ys = [y for one in drawing.utterances for y in (one.y, *(message.chip.y for message in one.messages))]
    assert ys == sorted(ys)
    assert ys[-1] < drawing.height
    assert all(line.x < drawing.width for line in drawing.lifelines)


def test_each_subscriber_has_an_arrow_of_its_own_with_what_came_of_it(here: Runtime) -> None:
    drawing = sequence_diagram(said_in(order(shipping="decline", payments="undo-fail:2")))

    chips = [message.chip.text for one in drawing.utterances for message in one.messages]
    assert "✕ arrange shipping" in chips
    assert "↶✓ refund payment ×3" in chips
    assert len(chips) == sum(len(one.heard) for one in said_in(order(shipping="decline")))


def test_an_orchestrated_saga_is_heard_only_by_those_who_listen(here: Runtime) -> None:
    said = said_in(order(Pattern.ORCHESTRATION))

    assert {one.task_name for found in said for one in found.heard} == {"notifications.notify_customer"}
    assert not event_flow.is_choreographed("order")
    assert not event_flow.is_choreographed("retired")
