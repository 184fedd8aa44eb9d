"""Several messages for one reaction in one transaction: the order's choreography, done by workers that gather."""

from app import runtime
from app.runtime import Runtime
from app.sagas import sagas
from bench.statements import Counted
from durable_sagas.events import delivery_of
from durable_sagas.history import history
from durable_sagas.ids import new_id
from durable_sagas.models import SagaInstance, SagaStep, StoredEvent
from tasks.inventory import ReservationStatus, StockReservation
from tasks.notifications import Notification
from tests.engine.wire import Wire, id_of, parent_of, run_together, wanted
from tests.simulation.messages import Message, run
from workflows.operations.audit import audit
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place

RESERVE, CHARGE = "inventory.reserve_on_order_created", "payments.charge_on_order_created"
SHIP = "shipping.ship_when_reserved_and_paid"
COMPLETE, HAND_OVER = "orders.complete_on_shipping_arranged", "inventory.hand_over_on_shipping_arranged"
REFUND, RELEASE = "payments.refund_on_failure", "inventory.release_on_failure"
CANCEL, NOTIFY = "orders.cancel_when_settled", "notifications.notify_customer"
SOLD_OUT = "book-456"


def order(book: str = "item-001", **simulate: str) -> PlacedOrder:
    return place(NewOrder((Item(book, 1),), Pattern.CHOREOGRAPHY, simulate=tuple(simulate.items())))


def saga(placed: PlacedOrder) -> SagaInstance:
    with runtime.current().database.reading() as session:
        return session.get_one(SagaInstance, placed.saga_id)


def step(placed: PlacedOrder, name: str, operation: str = "action") -> str | None:
    with runtime.current().database.reading() as session:
        row = session.get(SagaStep, (placed.saga_id, name, operation))
        return row.status if row else None


def past(placed: PlacedOrder) -> list[StoredEvent]:
    with runtime.current().database.reading() as session:
        return list(history(session, placed.order_id).events)


def events(placed: PlacedOrder) -> list[str]:
    """Return what happened, in order; no sequence may be missing or there twice."""
    found = past(placed)
    assert [event.sequence for event in found] == list(range(1, len(found) + 1))
    return [event.event_type for event in found]


def commits(counted: Counted) -> int:
    return sum(count for verb, count in counted.verbs.items() if "commit" in verb)


def by_saga(messages: list[Message]) -> dict[str, Message]:
    """Return the one message of each saga."""
    found = {message.arguments["saga_id"]: message for message in messages}
    assert len(found) == len(messages)
    return found


def assert_told(
    wire: Wire, placed: PlacedOrder, event: str, *task_names: str, by: Message, again: bool = False
) -> None:
    """See that all subscribers of an event, and nobody else, were told once, by the message that caused it."""
    (stored,) = (one for one in past(placed) if one.event_type == event)
    told = [message for message in wire.waiting if message.arguments["event_id"] == stored.id]
    assert sorted(message.task for message in told) == sorted(task_names)
    for message in told:
        assert (id_of(message) == delivery_of(stored.id, message.task)) is not again
        assert message.arguments["saga_id"] == placed.saga_id
        assert parent_of(message) == id_of(by)


def break_order(placed: PlacedOrder) -> None:
    """Have an order hold stock already under its id, so that reserving it meets an unforeseen error."""
    with runtime.current().database.transaction() as session:
        session.add(
            StockReservation(
                order_id=placed.order_id, book_id="item-001", quantity=1, status=ReservationStatus.RELEASED
            )
        )


def attempts(placed: PlacedOrder) -> int:
    with runtime.current().database.reading() as session:
        return session.get_one(SagaStep, (placed.saga_id, "reserve_stock", "action")).attempts


def test_reactions_are_done_with_one_commit(here: Runtime, wire: Wire) -> None:
    placed = [order() for _ in range(3)]
    messages = wire.take(RESERVE)
    counted = Counted(here.database.engine)

    with sagas.engine.batches.batch_results(RESERVE, wanted(messages)):
        assert commits(counted) == 1
        replies = [run(message) for message in messages]
        assert commits(counted) == 1

    assert [reply["sagaId"] for reply in replies] == [one.saga_id for one in placed]
    assert [reply["stepId"] for reply in replies] == ["reserve_stock"] * 3
    assert [reply["result"]["order_id"] for reply in replies] == [one.order_id for one in placed]
    for one, message in zip(placed, messages, strict=True):
        assert events(one) == ["OrderCreated", "StockReserved"]
        assert_told(wire, one, "StockReserved", SHIP, by=message)


def test_orders_go_all_the_way_together(wire: Wire) -> None:
    placed = [order() for _ in range(3)]

    while wire.waiting:
        wire.deliver(wire.names()[0])

    for one in placed:
        assert saga(one).status == "completed"
        assert [entry["state"] for entry in saga(one).state_history][-1] == "COMPLETED"
        assert set(events(one)[:3]) == {"OrderCreated", "StockReserved", "PaymentCompleted"}
        assert set(events(one)[3:]) == {"ShippingArranged", "OrderCompleted", "StockShipped"}
    assert list(audit()) == []
    with runtime.current().database.reading() as session:
        assert session.query(Notification).count() == 3


def test_the_milestone_is_that_of_all_that_has_happened(wire: Wire) -> None:
    placed = [order() for _ in range(2)]
    for task_name in (RESERVE, CHARGE, SHIP):
        wire.deliver(task_name)
    completing = by_saga(wire.take(COMPLETE))

    run_together(list(completing.values()))
    assert [saga(one).status for one in placed] == ["running"] * 2
    for one in placed:
        assert_told(wire, one, "OrderCompleted", NOTIFY, by=completing[one.saga_id])
    wire.deliver(HAND_OVER)
    assert [saga(one).status for one in placed] == ["completed"] * 2


def test_those_that_decide_on_nothing_do_nothing(wire: Wire) -> None:
    ready, waiting, other = order(), order(), order()
    (charge, *_) = wire.take(CHARGE)
    assert charge.arguments["saga_id"] == ready.saga_id
    wire.deliver(RESERVE)
    messages = wire.take(SHIP)
    run(charge)
    wire.waiting.clear()

    with sagas.engine.batches.batch_results(SHIP, wanted(messages)):
        assert step(ready, "arrange_shipping") is None  # a gateway is never called in a transaction of several
        shipped, *nothing = [run(message) for message in messages]

    assert shipped["stepId"] == "arrange_shipping"
    assert nothing == [
        {"success": True, "sagaId": one.saga_id, "stepId": SHIP, "result": None, "error": None}
        for one in (waiting, other)
    ]
    assert events(ready)[-1] == "ShippingArranged"
    assert events(waiting) == events(other) == ["OrderCreated", "StockReserved"]
    assert {message.arguments["saga_id"] for message in wire.waiting} == {ready.saga_id}


def test_a_no_is_recorded_and_said_with_what_the_others_did(here: Runtime, wire: Wire) -> None:
    first, refused, last = order(), order(SOLD_OUT), order()
    messages = wire.take(RESERVE)
    counted = Counted(here.database.engine)

    with sagas.engine.batches.batch_results(RESERVE, wanted(messages)):
        assert commits(counted) == 1
        _, reply, _ = [run(message) for message in messages]

    assert reply["error"] == f"{SOLD_OUT}: 1 wanted, 0 available"
    assert [step(one, "reserve_stock") for one in (first, refused, last)] == ["completed", "failed", "completed"]
    assert events(refused) == ["OrderCreated", "StockUnavailable"]
    assert_told(wire, refused, "StockUnavailable", REFUND, CANCEL, by=messages[1])
    assert [saga(one).status for one in (first, refused, last)] == ["running", "compensating", "running"]
    assert saga(refused).error == f"StockUnavailable: {SOLD_OUT}: 1 wanted, 0 available"
    assert sagas.engine.batches.is_batchable(RESERVE)

    wire.deliver_all()
    assert [saga(one).status for one in (first, refused, last)] == ["completed", "compensated", "completed"]
    assert list(audit()) == []


def test_an_undoing_finds_what_there_is_to_undo(here: Runtime, wire: Wire) -> None:
    reserved, refused, never = order(payments="decline"), order(SOLD_OUT, payments="decline"), order(payments="decline")
    reserving = by_saga(wire.take(RESERVE))
    wire.deliver(CHARGE)
    run_together([reserving[one.saga_id] for one in (reserved, refused)])
    messages = wire.take(RELEASE)
    counted = Counted(here.database.engine)

    with sagas.engine.batches.batch_results(RELEASE, wanted(messages)):
        assert commits(counted) == 1
        undone = [step(one, "reserve_stock", "compensation") for one in (reserved, refused, never)]
        assert undone == ["completed", "skipped", "skipped"]
        replies = [run(message) for message in messages]

    assert [reply["success"] for reply in replies] == [True] * 3
    assert step(never, "reserve_stock") == "skipped"  # blocked: it must not run later
    run(reserving[never.saga_id])  # and its door is shut
    assert step(never, "reserve_stock") == "skipped"
    for one in (reserved, refused, never):
        assert events(one)[-1] == "StockReleased"
    wire.deliver_all()
    assert [saga(one).status for one in (reserved, refused, never)] == ["compensated"] * 3
    assert [events(one).count("StockReleased") for one in (reserved, refused, never)] == [1] * 3
    assert list(audit()) == []


def test_of_two_messages_about_one_order_one_is_done_and_the_other_finds_it_done(wire: Wire) -> None:
    cancelled, other = order(payments="decline"), order(payments="decline")
    wire.deliver(RESERVE)
    wire.deliver(CHARGE)
    wire.deliver(RELEASE)
    messages = wire.take(CANCEL)
    wire.waiting.clear()
    assert len(messages) == 4  # of the money and of the stock

    run_together(messages)

    for one in (cancelled, other):
        assert events(one).count("OrderCancelled") == 1
        first = next(message for message in messages if message.arguments["saga_id"] == one.saga_id)
        assert_told(wire, one, "OrderCancelled", NOTIFY, by=first)
        assert saga(one).status == "compensated"
        told = [message for message in wire.waiting if message.arguments["saga_id"] == one.saga_id]
        assert [message.task for message in told] == [NOTIFY]


def test_a_process_that_dies_after_the_commit_has_its_events_said_by_the_repetition(wire: Wire) -> None:
    placed = [order() for _ in range(2)]
    messages = wire.take(RESERVE)
    with sagas.engine.batches.batch_results(RESERVE, wanted(messages)):
        assert wire.names().count(SHIP) == 2  # they were sent after the commit
    wire.waiting = [message for message in wire.waiting if message.task != SHIP]  # suppose they were not

    run_together(messages)

    for one, message in zip(placed, messages, strict=True):
        assert events(one) == ["OrderCreated", "StockReserved"]
        assert_told(wire, one, "StockReserved", SHIP, by=message, again=True)
    wire.deliver_all()
    assert [saga(one).status for one in placed] == ["completed"] * 2
    assert list(audit()) == []


def test_an_error_of_one_leaves_all_undone_and_each_is_done_alone(wire: Wire) -> None:
    first, faulty, last = order(), order(), order()
    messages = wire.take(RESERVE)
    break_order(faulty)

    with sagas.engine.batches.batch_results(RESERVE, wanted(messages)):
        assert [step(one, "reserve_stock") for one in (first, faulty, last)] == [None] * 3
        assert not sagas.engine.batches.is_batchable(RESERVE)
        assert SHIP not in wire.names()
        for message in messages:
            run(message)

    assert [step(one, "reserve_stock") for one in (first, faulty, last)] == ["completed", "retrying", "completed"]
    assert attempts(faulty) == 1
    assert wire.names().count(RESERVE) == 1
    assert wire.names().count(SHIP) == 2


def test_messages_that_mean_nothing_are_dropped_and_the_others_done(wire: Wire) -> None:
    orchestrated = place(NewOrder((Item("item-001", 1),), Pattern.ORCHESTRATION))
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
    assert events(one) == ["OrderCreated", "StockReserved"]
    assert events(other) == ["OrderCreated"]
