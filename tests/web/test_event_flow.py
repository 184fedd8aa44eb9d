"""Who said what to whom in a choreographed saga, and the sequence diagram of it."""

from itertools import pairwise

from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas.events import delivery_of
from tests.testkit.messages import Clock, Post
from web.diagrams.sequence import sequence_diagram
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place
from workflows.read_side import event_flow, queries
from workflows.read_side.event_flow import Outcome, PublishedEvent


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
