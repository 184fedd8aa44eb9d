"""Several messages for one reaction in one transaction: the order's choreography, with workers that batch."""

from functools import partial

from app import runtime
from app.sagas import sagas
from durable_sagas.events import delivery_of
from durable_sagas.ids import new_id
from tasks.inventory import ReservationStatus, StockReservation
from tests.engine.wire import Wire, one_commit, run_together
from tests.simulation.messages import Message, batched, run
from tests.testkit import stored
from tests.testkit.orders import order as order_in
from tests.testkit.stored import events, statuses
from workflows.operations.audit import audit
from workflows.orders import Pattern, PlacedOrder

RESERVE, CHARGE = "inventory.reserve_on_order_created", "payments.charge_on_order_created"
SHIP = "shipping.ship_when_reserved_and_paid"
COMPLETE, HAND_OVER = "orders.complete_on_shipping_arranged", "inventory.hand_over_on_shipping_arranged"
REFUND, RELEASE = "payments.refund_on_failure", "inventory.release_on_failure"
CANCEL, NOTIFY = "orders.cancel_when_settled", "notifications.notify_customer"
SOLD_OUT = "book-456"

order = partial(order_in, Pattern.CHOREOGRAPHY)


def ids(*placed: PlacedOrder) -> list[str]:
    return [one.saga_id for one in placed]


def reservations(*placed: PlacedOrder, operation: str = "action") -> list[str | None]:
    """Return the status of each order's reservation, or None where nothing is logged."""
    logged = [stored.logged(one.saga_id, "reserve_stock", operation) for one in placed]
    return [entry and entry[0] for entry in logged]


def by_saga(messages: list[Message]) -> dict[str | None, Message]:
    """Return the one message of each saga."""
    found = {message.saga_id: message for message in messages}
    assert len(found) == len(messages)
    return found


def assert_published(wire: Wire, placed: PlacedOrder, event: str, *subscribers: str, by: Message) -> None:
    """Check that an event was sent once to all its subscribers, and to nobody else, by the message that caused it."""
    query = "SELECT id FROM events WHERE aggregate_id = :id AND event_type = :event"
    (event_id,) = stored.column(query, id=placed.order_id, event=event)
    sent = [message for message in wire.waiting if message.arguments["event_id"] == event_id]
    assert sorted(message.task for message in sent) == sorted(subscribers)
    for message in sent:
        assert message.task_id == delivery_of(event_id, message.task)
        assert (message.saga_id, message.parent_id) == (placed.saga_id, by.task_id)


def test_reactions_are_executed_with_one_commit(wire: Wire) -> None:
    placed = [order() for _ in range(3)]
    messages = wire.take(RESERVE)

    with one_commit():
        replies = run_together(messages)

    assert [reply["sagaId"] for reply in replies] == ids(*placed)
    assert [reply["stepId"] for reply in replies] == ["reserve_stock"] * 3
    assert [reply["result"]["order_id"] for reply in replies] == [one.order_id for one in placed]
    for one, message in zip(placed, messages, strict=True):
        assert events(one.saga_id) == ["OrderCreated", "StockReserved"]
        assert_published(wire, one, "StockReserved", SHIP, by=message)


def test_the_milestone_is_that_of_all_that_has_happened(wire: Wire) -> None:
    placed = [order() for _ in range(2)]
    wire.deliver(RESERVE, CHARGE, SHIP)
    completing = by_saga(wire.take(COMPLETE))

    run_together(list(completing.values()))
    assert statuses(*ids(*placed)) == ["running"] * 2
    for one in placed:
        assert_published(wire, one, "OrderCompleted", NOTIFY, by=completing[one.saga_id])
    wire.deliver(HAND_OVER)
    assert statuses(*ids(*placed)) == ["completed"] * 2


def test_reactions_that_decide_on_nothing_do_nothing(wire: Wire) -> None:
    ready, waiting, other = order(), order(), order()
    charge = by_saga(wire.take(CHARGE))[ready.saga_id]
    wire.deliver(RESERVE)
    messages = wire.take(SHIP)
    run(charge)
    wire.waiting.clear()

    with batched(messages):
        # a gateway is never called in a transaction of several
        assert stored.logged(ready.saga_id, "arrange_shipping") is None
        shipped, *nothing = [run(message) for message in messages]

    assert shipped["stepId"] == "arrange_shipping"
    assert nothing == [
        {"success": True, "sagaId": one.saga_id, "stepId": SHIP, "result": None, "error": None}
        for one in (waiting, other)
    ]
    assert events(ready.saga_id)[-1] == "ShippingArranged"
    assert events(waiting.saga_id) == events(other.saga_id) == ["OrderCreated", "StockReserved"]
    assert {message.saga_id for message in wire.waiting} == {ready.saga_id}


def test_a_rejection_is_recorded_and_published_with_what_the_others_did(wire: Wire) -> None:
    placed = _, refused, _ = order(), order(SOLD_OUT), order()
    messages = wire.take(RESERVE)

    with one_commit():
        _, reply, _ = run_together(messages)

    assert reply["error"] == f"{SOLD_OUT}: 1 wanted, 0 available"
    assert reservations(*placed) == ["completed", "failed", "completed"]
    assert events(refused.saga_id) == ["OrderCreated", "StockUnavailable"]
    assert_published(wire, refused, "StockUnavailable", REFUND, CANCEL, by=messages[1])
    assert statuses(*ids(*placed)) == ["running", "compensating", "running"]
    assert stored.saga(refused.saga_id).error == f"StockUnavailable: {SOLD_OUT}: 1 wanted, 0 available"
    assert sagas.engine.batches.is_batchable(RESERVE)

    wire.deliver_all()
    assert statuses(*ids(*placed)) == ["completed", "compensated", "completed"]
    assert list(audit()) == []


def test_compensations_find_what_there_is_to_compensate(wire: Wire) -> None:
    placed = reserved, refused, never = [order(book, payments="decline") for book in ("item-001", SOLD_OUT, "item-001")]
    reserving = by_saga(wire.take(RESERVE))
    wire.deliver(CHARGE)
    run_together([reserving[one.saga_id] for one in (reserved, refused)])

    with one_commit():
        replies = wire.deliver(RELEASE)

    assert [reply["success"] for reply in replies] == [True] * 3
    assert reservations(*placed, operation="compensation") == ["completed", "skipped", "skipped"]
    assert reservations(never) == ["skipped"]  # blocked: it must not run later
    run(reserving[never.saga_id])
    assert reservations(never) == ["skipped"]
    assert [events(one.saga_id)[-1] for one in placed] == ["StockReleased"] * 3
    wire.deliver_all()
    assert statuses(*ids(*placed)) == ["compensated"] * 3
    assert [events(one.saga_id).count("StockReleased") for one in placed] == [1] * 3
    assert list(audit()) == []


def test_of_two_messages_about_one_order_one_is_executed_and_the_other_finds_it_done(wire: Wire) -> None:
    placed = [order(payments="decline") for _ in range(2)]
    wire.deliver(RESERVE, CHARGE, RELEASE)
    messages = wire.take(CANCEL)
    wire.waiting.clear()
    assert len(messages) == 4  # of the money and of the stock

    run_together(messages)

    for one in placed:
        assert events(one.saga_id).count("OrderCancelled") == 1
        first = next(message for message in messages if message.saga_id == one.saga_id)
        assert_published(wire, one, "OrderCancelled", NOTIFY, by=first)
    assert statuses(*ids(*placed)) == ["compensated"] * 2
    assert wire.names() == [NOTIFY] * 2


def test_an_error_of_one_rolls_back_all_and_each_is_executed_alone(wire: Wire) -> None:
    placed = _, faulty, _ = order(), order(), order()
    messages = wire.take(RESERVE)
    with runtime.current().database.transaction() as session:  # it cannot be reserved for this order once more
        key = {"order_id": faulty.order_id, "book_id": "item-001"}
        session.add(StockReservation(**key, quantity=1, status=ReservationStatus.RELEASED))

    with batched(messages):
        assert reservations(*placed) == [None] * 3
        assert not sagas.engine.batches.is_batchable(RESERVE)
        assert SHIP not in wire.names()
        for message in messages:
            run(message)

    assert reservations(*placed) == ["completed", "retrying", "completed"]
    assert stored.step(faulty.saga_id, "reserve_stock").attempts == 1
    assert (wire.names().count(RESERVE), wire.names().count(SHIP)) == (1, 2)


def test_forged_messages_are_dropped_and_the_others_executed(wire: Wire) -> None:
    orchestrated = order_in(Pattern.ORCHESTRATION)
    one, other = order(), order()
    (mine, _) = wire.take(RESERVE)
    event_id = mine.arguments["event_id"]
    for saga_id, about in (
        (other.saga_id, event_id),  # an event of another order
        (other.saga_id, "no id"),
        (new_id(), event_id),
        ("no id", event_id),
        (orchestrated.saga_id, event_id),
    ):
        sagas.engine.publisher.send(RESERVE, saga_id=saga_id, event_id=about)

    replies = run_together([mine, *wire.take(RESERVE)])

    assert replies[0]["success"]
    assert {reply["error"] for reply in replies[1:]} == {"no such event", "no such saga"}
    assert events(one.saga_id) == ["OrderCreated", "StockReserved"]
    assert events(other.saga_id) == ["OrderCreated"]
