"""The choreography, with its messages delivered in whatever order a test likes."""

from collections.abc import Callable
from itertools import permutations
from typing import Any
from uuid import UUID, uuid5

import pytest
from sqlalchemy import text

from app import runtime
from app.errors import Conflict, StepRejected, StepUnavailable
from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas.definition import StepStatus
from durable_sagas.events import delivery_of
from durable_sagas.ids import new_id
from durable_sagas.models import SagaInstance, SagaStep
from tasks import inventory, orders, payments, shipping
from tasks.gateways.carrier import SimulatedCarrier
from tasks.gateways.payment_provider import SimulatedPaymentProvider
from tests.testkit.messages import Clock, Post, run
from workflows.operations.audit import audit
from workflows.order_choreography import ORDER_CHOREOGRAPHY
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place

RESERVE, CHARGE = "inventory.reserve_on_order_created", "payments.charge_on_order_created"
SHIP = "shipping.ship_when_reserved_and_paid"
CANCEL = "orders.cancel_when_settled"
NOTIFY = "notifications.notify_customer"
CLOSE = "shipping.settle_on_time_out_or_cancel_request"


def order(book: str = "book-789", **simulate: str) -> PlacedOrder:
    return place(NewOrder((Item(book, 1),), Pattern.CHOREOGRAPHY, simulate=tuple(simulate.items())))


def saga(placed: PlacedOrder) -> SagaInstance:
    with runtime.current().database.reading() as session:
        return session.get_one(SagaInstance, placed.saga_id)


def step(placed: PlacedOrder, name: str, operation: str = "action") -> SagaStep | None:
    with runtime.current().database.reading() as session:
        return session.get(SagaStep, (placed.saga_id, name, operation))


def events(placed: PlacedOrder) -> list[str]:
    query = text("SELECT event_type FROM events WHERE aggregate_id = :id ORDER BY sequence")
    with runtime.current().database.reading() as session:
        return list(session.scalars(query, {"id": placed.order_id}))


def ledger(placed: PlacedOrder, table: str) -> list[str]:
    with runtime.current().database.reading() as session:
        return sorted(session.scalars(text(f"SELECT kind FROM {table} WHERE order_id = :id"), {"id": placed.order_id}))


def assert_clean(placed: PlacedOrder, status: str) -> None:
    assert saga(placed).status == status, events(placed)
    assert len(events(placed)) == len(set(events(placed))), events(placed)
    assert list(audit()) == []


@pytest.mark.parametrize(
    ("event", "reactions"),
    [
        (orders.OrderCreated, {RESERVE, CHARGE}),
        (inventory.StockReserved, {SHIP}),
        (payments.PaymentCompleted, {SHIP}),
        (
            shipping.ShippingArranged,
            {"orders.complete_on_shipping_arranged", "inventory.hand_over_on_shipping_arranged"},
        ),
        (inventory.StockUnavailable, {"payments.refund_on_failure", "orders.cancel_when_settled"}),
        (payments.PaymentFailed, {"inventory.release_on_failure", "orders.cancel_when_settled"}),
        (shipping.ShippingFailed, {"payments.refund_on_failure", "inventory.release_on_failure"}),
        (payments.PaymentRefunded, {"orders.cancel_when_settled"}),
        (payments.PaymentCancelled, {"orders.cancel_when_settled"}),
        (inventory.StockReleased, {"orders.cancel_when_settled"}),
        (orders.OrderTimedOut, {CLOSE}),
        (orders.OrderCancelRequested, {CLOSE}),
    ],
)
def test_every_row_of_the_table(event: Any, reactions: set[str]) -> None:
    assert set(sagas.events.subscribers(event, ORDER_CHOREOGRAPHY.name)) == reactions


@pytest.mark.parametrize("first", [RESERVE, CHARGE])
def test_the_branches_join_in_either_order(post: Post, first: str) -> None:
    placed = order()

    post.deliver(first)
    assert post.names().count(SHIP) == 1
    post.deliver(SHIP)
    assert step(placed, "arrange_shipping") is None
    post.deliver_all()

    assert_clean(placed, "completed")


@pytest.mark.parametrize("last_first", [False, True])
@pytest.mark.parametrize(
    ("book", "simulate", "ends"),
    [
        ("book-789", {}, "completed"),
        ("book-456", {}, "compensated"),
        ("book-789", {"payments": "decline"}, "compensated"),
        ("book-456", {"payments": "decline"}, "compensated"),
        ("book-789", {"shipping": "decline"}, "compensated"),
        ("book-789", {"payments": "timeout"}, "compensated"),
        ("book-789", {"shipping": "timeout"}, "compensated"),
    ],
)
def test_every_message_twice_and_in_either_direction(
    post: Post, book: str, simulate: dict[str, str], ends: str, last_first: bool
) -> None:
    placed = order(book, **simulate)

    delivered = 0
    while post.waiting:
        message = post.waiting.pop(-1 if last_first else 0)
        run(message)
        if delivered < 40:  # repeats make repeats: each says again what it said
            run(message)
        delivered += 1

    assert_clean(placed, ends)


STOPPED = ["OrderCreated", "StockUnavailable", "PaymentCancelled", "OrderCancelled"]


@pytest.mark.parametrize("next_", [CHARGE, "payments.refund_on_failure"])
def test_where_stock_is_unavailable_first_the_charge_is_never_made(
    post: Post, monkeypatch: pytest.MonkeyPatch, next_: str
) -> None:
    monkeypatch.setattr(SimulatedPaymentProvider, "capture", lambda *_: pytest.fail("charged"))
    placed = order("book-456")

    post.deliver(RESERVE)
    post.deliver(next_)
    post.deliver_all()

    assert_clean(placed, "compensated")
    assert ledger(placed, "payment_provider_ledger") == ["void"]
    assert events(placed) == STOPPED


def test_a_charge_under_way_when_stock_is_unavailable_is_given_back_and_not_stated(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = order("book-456")
    capture = SimulatedPaymentProvider.capture

    def slowly(*asked: Any) -> Any:
        post.deliver(RESERVE)
        return capture(*asked)

    monkeypatch.setattr(SimulatedPaymentProvider, "capture", slowly)

    post.deliver(CHARGE)
    post.deliver_all()

    assert_clean(placed, "compensated")
    assert ledger(placed, "payment_provider_ledger") == ["capture", "refund"]
    assert events(placed) == ["OrderCreated", "StockUnavailable", "PaymentRefunded", "OrderCancelled"]


def test_the_charge_was_made_before_the_stock_is_known_to_be_unavailable(post: Post) -> None:
    placed = order("book-456")

    post.deliver(CHARGE)
    post.deliver_all()

    assert_clean(placed, "compensated")
    assert ledger(placed, "payment_provider_ledger") == ["capture", "refund"]
    assert "PaymentRefunded" in events(placed)


def test_the_payment_fails_before_the_stock_is_reserved(post: Post) -> None:
    placed = order(payments="decline")

    post.deliver(CHARGE)
    post.deliver("inventory.release_on_failure")
    post.deliver_all()

    assert_clean(placed, "compensated")
    row = step(placed, "reserve_stock")
    assert row is not None
    assert row.status == StepStatus.SKIPPED
    assert "StockReserved" not in events(placed)


def test_the_order_is_cancelled_only_when_everybody_has_settled(post: Post) -> None:
    placed = order(shipping="decline")
    for task_name in (RESERVE, CHARGE, SHIP):
        post.deliver(task_name)

    post.deliver("payments.refund_on_failure")
    post.deliver("orders.cancel_when_settled")
    assert "OrderCancelled" not in events(placed)
    post.deliver_all()

    assert events(placed)[-1] == "OrderCancelled"
    assert_clean(placed, "compensated")


@pytest.mark.parametrize("first_steps", [(), (RESERVE,), (CHARGE,), (RESERVE, CHARGE)])
def test_a_cancelled_order_is_undone_wherever_it_stood(post: Post, first_steps: tuple[str, ...]) -> None:
    placed = order()
    for task_name in first_steps:
        post.deliver(task_name)

    sagas.cancel(placed.saga_id)
    post.deliver(CLOSE)
    post.deliver_all()

    assert_clean(placed, "compensated")


def test_a_booking_that_was_first_wins_over_a_cancellation(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    book = SimulatedCarrier.book
    placed = order()
    for task_name in (RESERVE, CHARGE):
        post.deliver(task_name)

    def cancelled_meanwhile(*call: Any) -> str:
        sagas.cancel(placed.saga_id)
        return book(*call)

    monkeypatch.setattr(SimulatedCarrier, "book", cancelled_meanwhile)
    post.deliver(SHIP)
    post.deliver(CLOSE)
    post.deliver_all()

    assert_clean(placed, "completed")
    with pytest.raises(Conflict, match="point of no return"):
        sagas.cancel(placed.saga_id)


@pytest.mark.parametrize("too_late", ["cancelled", "overdue"])
def test_nothing_is_booked_by_a_message_that_waited_too_long(post: Post, clock: Clock, too_late: str) -> None:
    placed = order()
    for task_name in (RESERVE, CHARGE):
        post.deliver(task_name)
    clock.forward(2.1)
    if too_late == "cancelled":
        sagas.cancel(placed.saga_id)
    else:
        sagas.sweep()

    post.deliver_all()  # the order to ship comes before the word that it is too late

    assert_clean(placed, "compensated")
    assert ledger(placed, "carrier_ledger") == ["void"]


def test_an_order_that_times_out_takes_the_same_way_out(post: Post, clock: Clock) -> None:
    placed = order()
    post.deliver(RESERVE)
    post.waiting.clear()

    clock.forward(2.1)
    assert sagas.sweep().timed_out == 1
    post.deliver_all()

    assert_clean(placed, "compensated")
    assert "OrderTimedOut" in events(placed)


def test_lost_messages_are_sent_again_by_the_sweep(post: Post, clock: Clock) -> None:
    placed = order()
    post.deliver(RESERVE)
    post.waiting.clear()

    clock.forward(1.1)
    assert sagas.sweep().driven == 1
    post.deliver_all()

    assert_clean(placed, "completed")


@pytest.mark.parametrize("victim", [RESERVE, CHARGE, "payments.refund_on_failure", NOTIFY])
@pytest.mark.parametrize("by_hand", [False, True], ids=["swept", "resumed"])
def test_what_was_revoked_is_done_when_it_is_sent_again(post: Post, clock: Clock, victim: str, by_hand: bool) -> None:
    placed = order(shipping="decline")
    while victim not in post.names():
        run(post.waiting.pop(0))
    post.revoke(victim)
    post.deliver_all()

    if by_hand and victim != NOTIFY:
        sagas.resume(placed.saga_id)
    else:
        clock.forward(1.5)  # stalled, and not overdue
        sagas.sweep()
    post.deliver_all()

    assert_clean(placed, "compensated")
    query = text("SELECT count(*) FROM notifications WHERE order_id = :id")
    with runtime.current().database.reading() as session:
        assert session.scalar(query, {"id": placed.order_id}) == 1


def test_the_sweep_waits_while_an_order_makes_progress(post: Post, clock: Clock) -> None:
    placed = order()
    clock.forward(0.9)
    post.deliver(RESERVE)
    waiting = len(post.waiting)

    clock.forward(0.2)
    sagas.sweep()

    assert len(post.waiting) == waiting
    post.deliver_all()
    assert_clean(placed, "completed")


class Crash(BaseException):
    """Stands for a process that is killed: nothing catches it."""


@pytest.mark.parametrize(
    ("victim", "attribute"),
    [
        (CHARGE, "payments.capture"),
        (SHIP, "carrier.book"),
        ("payments.refund_on_failure", "payments.void"),
    ],
)
def test_a_kill_between_a_gateways_effect_and_its_record_does_nothing_twice(
    post: Post, monkeypatch: pytest.MonkeyPatch, victim: str, attribute: str
) -> None:
    owner: Any = SimulatedPaymentProvider if attribute.startswith("payments") else SimulatedCarrier
    name = attribute.partition(".")[2]
    works: Callable[..., Any] = getattr(owner, name)

    def dies_after_it_took_effect(*arguments: Any) -> Any:
        works(*arguments)
        raise Crash

    placed = order(shipping="decline") if victim == "payments.refund_on_failure" else order()
    while post.names()[0] != victim:
        post.deliver(post.names()[0])
    message = post.waiting[0]
    monkeypatch.setattr(owner, name, dies_after_it_took_effect)
    with pytest.raises(Crash):
        run(message)
    monkeypatch.setattr(owner, name, works)

    post.deliver_all()  # the message was never acknowledged: it is still there

    assert_clean(placed, "compensated" if victim == "payments.refund_on_failure" else "completed")


def test_of_two_messages_that_come_again_only_the_one_that_did_it_says_so_again(post: Post) -> None:
    placed = order()
    post.deliver(RESERVE)
    post.deliver(CHARGE)
    messages = [post.take(SHIP), post.take(SHIP)]
    told = {"orders.complete_on_shipping_arranged", "inventory.hand_over_on_shipping_arranged"}
    run(messages[1])
    assert set(post.names()) == told
    post.waiting.clear()

    run(messages[0])
    assert post.names() == []

    run(messages[1])
    assert set(post.names()) == told
    post.deliver_all()
    assert_clean(placed, "completed")


@pytest.mark.parametrize(("of_this_event", "repeated"), [(None, [SHIP]), (True, [SHIP]), (False, [])])
def test_a_row_of_a_version_without_deliveries_names_its_event_only_by_a_first_task_id(
    post: Post, of_this_event: bool | None, repeated: list[str]
) -> None:
    order()
    reserve = post.take(RESERVE)
    run(reserve)
    post.waiting.clear()
    ids = {
        None: new_id(),
        True: delivery_of(reserve.kwargs["event_id"], RESERVE),
        False: str(uuid5(UUID(int=0), "another")),
    }
    with runtime.current().database.transaction() as session:
        logged = text("UPDATE saga_steps SET delivery_id = NULL, task_id = :task_id WHERE step = 'reserve_stock'")
        session.execute(logged, {"task_id": ids[of_this_event]})

    run(reserve)

    assert post.names() == repeated


def test_a_resume_says_what_no_repetition_would(post: Post) -> None:
    placed = order(shipping="decline")
    while CANCEL not in post.names():
        run(post.waiting.pop(0))
    post.waiting.clear()  # nobody heard that all is given back
    with runtime.current().database.transaction() as session:
        # as if the reactions had other names when they did it, before a deploy
        session.execute(text("UPDATE saga_steps SET delivery_id = 'another'"))

    sagas.resume(placed.saga_id)
    post.deliver_all()

    assert_clean(placed, "compensated")


def test_a_message_that_comes_again_does_not_trouble_the_gateway(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = order(shipping="decline")
    charge = post.take(CHARGE)
    run(charge)
    post.deliver(RESERVE)
    post.deliver(SHIP)
    refund = post.take("payments.refund_on_failure")
    run(refund)

    for name in ("capture", "void"):
        monkeypatch.setattr(SimulatedPaymentProvider, name, lambda *_: pytest.fail("asked again"))
    run(charge)
    run(refund)
    monkeypatch.undo()

    assert step(placed, "process_payment", "compensation") is not None


def test_a_declined_charge_is_never_made_by_a_message_that_comes_again(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = SimulatedPaymentProvider.capture
    placed = order()
    charge = post.take(CHARGE)
    monkeypatch.setattr(SimulatedPaymentProvider, "capture", declines)
    run(charge)
    monkeypatch.setattr(SimulatedPaymentProvider, "capture", capture)

    run(charge)
    post.deliver_all()

    assert_clean(placed, "compensated")
    assert "capture" not in ledger(placed, "payment_provider_ledger")


@pytest.mark.parametrize("effect_first", [True, False])
def test_a_charge_that_is_declined_while_a_repetition_of_it_succeeds_is_voided(
    post: Post, monkeypatch: pytest.MonkeyPatch, effect_first: bool
) -> None:
    capture = SimulatedPaymentProvider.capture
    placed = order()
    charge = post.take(CHARGE)

    def captures_while_a_repetition_is_declined(*arguments: Any) -> Any:
        receipt = capture(*arguments) if effect_first else None
        monkeypatch.setattr(SimulatedPaymentProvider, "capture", declines)
        run(charge)
        return receipt or capture(*arguments)

    monkeypatch.setattr(SimulatedPaymentProvider, "capture", captures_while_a_repetition_is_declined)
    run(charge)
    monkeypatch.setattr(SimulatedPaymentProvider, "capture", capture)
    post.deliver_all()

    assert_clean(placed, "compensated")


def test_a_closing_that_was_killed_is_ended_by_the_next_message(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    void = SimulatedPaymentProvider.void
    placed = order(payments="timeout")
    charge = post.take(CHARGE)

    def dies(*_: Any) -> Any:
        raise Crash

    monkeypatch.setattr(SimulatedPaymentProvider, "void", dies)
    with pytest.raises(Crash):
        run(charge)
    row = step(placed, "process_payment")
    assert row is not None
    assert row.status == StepStatus.CLOSING
    monkeypatch.setattr(SimulatedPaymentProvider, "void", void)

    run(charge)
    post.deliver_all()

    assert_clean(placed, "compensated")
    assert ledger(placed, "payment_provider_ledger") == ["capture", "refund"]


def test_a_refund_that_fails_while_a_repetition_of_it_succeeds_is_done(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    void = SimulatedPaymentProvider.void
    placed = order(shipping="decline")
    for task_name in (RESERVE, CHARGE, SHIP):
        post.deliver(task_name)
    refund = post.take("payments.refund_on_failure")

    def fails_while_a_repetition_succeeds(*_: Any) -> Any:
        monkeypatch.setattr(SimulatedPaymentProvider, "void", void)
        run(refund)
        raise StepUnavailable("no answer")

    monkeypatch.setattr(SimulatedPaymentProvider, "void", fails_while_a_repetition_succeeds)
    run(refund)
    post.deliver_all()

    assert_clean(placed, "compensated")


def test_what_is_over_is_not_stuck_by_a_late_message_that_fails(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = order(payments="decline")
    sagas.cancel(placed.saga_id)
    close = post.take(CLOSE)
    post.deliver_all()
    assert_clean(placed, "compensated")

    monkeypatch.setattr(SimulatedCarrier, "void", unreachable)
    run(close)

    assert_clean(placed, "compensated")


def test_voiding_has_a_round_of_retries_of_its_own_and_can_be_resumed(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    void = SimulatedPaymentProvider.void
    placed = order(payments="timeout")
    monkeypatch.setattr(SimulatedPaymentProvider, "void", unreachable)
    post.deliver(CHARGE)
    assert saga(placed).status == "stuck"
    row = step(placed, "process_payment")
    assert row is not None
    assert (row.status, row.attempts) == (StepStatus.CLOSING, 2 + 7)
    monkeypatch.setattr(SimulatedPaymentProvider, "void", void)

    sagas.resume(placed.saga_id)
    post.deliver_all()

    assert_clean(placed, "compensated")
    assert payment_status(placed) == "refunded"


def test_a_step_past_the_point_of_no_return_waits_for_a_resume(here: Runtime) -> None:
    placed = order(orders="fail:8")
    assert saga(placed).status == "stuck"
    with pytest.raises(Conflict, match="point of no return"):
        sagas.cancel(placed.saga_id)

    sagas.resume(placed.saga_id)

    assert_clean(placed, "completed")


def test_the_customer_hears_why_it_was_cancelled_and_not_what_it_was_stuck_on(here: Runtime) -> None:
    placed = order(shipping="decline", payments="undo-fail:8")
    sagas.resume(placed.saga_id)

    with runtime.current().database.reading() as session:
        query = text("SELECT message FROM notifications WHERE order_id = :id")
        message = session.scalar(query, {"id": placed.order_id})
    assert message is not None
    assert "declined" in message


def test_a_timed_out_order_is_seen_at_its_deadline_even_while_it_makes_progress(post: Post, clock: Clock) -> None:
    placed = order()
    clock.forward(1.9)
    post.deliver(RESERVE)
    clock.forward(0.05)
    sagas.sweep()

    assert saga(placed).wake_at == saga(placed).deadline_at
    clock.forward(0.1)
    assert sagas.sweep().timed_out == 1


def payment_status(placed: PlacedOrder) -> str | None:
    with runtime.current().database.reading() as session:
        query = text("SELECT status FROM payments WHERE order_id = :id")
        return session.execute(query, {"id": placed.order_id}).scalar_one_or_none()


def unreachable(*_: Any) -> Any:
    raise StepUnavailable("no answer")


def declines(*_: Any) -> Any:
    raise StepRejected("the provider declined")


def test_the_first_messages_in_every_order(post: Post) -> None:
    for sequence in permutations([RESERVE, CHARGE, CLOSE]):
        placed = order("item-001")
        sagas.cancel(placed.saga_id)
        for task_name in sequence:
            post.deliver(task_name)
        post.deliver_all()
        assert_clean(placed, "compensated")


def test_a_resumed_refund_settles_the_order(here: Runtime) -> None:
    placed = order(shipping="decline", payments="undo-fail:8")
    assert saga(placed).status == "stuck"
    with pytest.raises(Conflict, match="resume it"):
        sagas.cancel(placed.saga_id)

    sagas.resume(placed.saga_id)

    assert_clean(placed, "compensated")
