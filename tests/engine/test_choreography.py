"""The choreography, with its messages delivered in whatever order a test likes.

That an order ends well in every order of delivery, with every message twice, and with every single fault: see
``tests/simulation``.
"""

from functools import partial
from typing import Any

import pytest

from app import runtime
from app.errors import Conflict, StepRejected, StepUnavailable
from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas.definition import StepStatus
from durable_sagas.history import History
from durable_sagas.models import SagaStep, StoredEvent
from tasks import inventory, orders, payments, shipping
from tasks.gateways.carrier import SimulatedCarrier
from tasks.gateways.payment_provider import SimulatedPaymentProvider
from tests.testkit import stored
from tests.testkit.messages import Clock, Post, run
from tests.testkit.orders import order as order_in
from workflows.operations.audit import audit
from workflows.order_choreography import ORDER_CHOREOGRAPHY, cancel_when_settled, ship_when_reserved_and_paid
from workflows.orders import Pattern, PlacedOrder

RESERVE, CHARGE = "inventory.reserve_on_order_created", "payments.charge_on_order_created"
SHIP, CLOSE = "shipping.ship_when_reserved_and_paid", "shipping.settle_on_time_out_or_cancel_request"
COMPLETE, HAND_OVER = "orders.complete_on_shipping_arranged", "inventory.hand_over_on_shipping_arranged"
REFUND, RELEASE = "payments.refund_on_failure", "inventory.release_on_failure"
CANCEL, NOTIFY = "orders.cancel_when_settled", "notifications.notify_customer"
SOLD_OUT = "book-456"

order = partial(order_in, Pattern.CHOREOGRAPHY)


def provider_ledger(placed: PlacedOrder) -> list[str]:
    return stored.column(
        "SELECT kind FROM payment_provider_ledger WHERE order_id = :id ORDER BY kind", id=placed.order_id
    )


def assert_clean(placed: PlacedOrder, status: str) -> None:
    events = stored.events(placed.saga_id)
    assert stored.saga(placed.saga_id).status == status, events
    assert len(events) == len(set(events)), events
    assert list(audit()) == []


def unreachable(*_: Any) -> Any:
    raise StepUnavailable("no answer")


def declines(*_: Any) -> Any:
    raise StepRejected("the provider declined")


@pytest.mark.parametrize(
    ("event", "reactions"),
    [
        (orders.OrderCreated, {RESERVE, CHARGE}),
        (inventory.StockReserved, {SHIP}),
        (payments.PaymentCompleted, {SHIP}),
        (shipping.ShippingArranged, {COMPLETE, HAND_OVER}),
        (inventory.StockUnavailable, {REFUND, CANCEL}),
        (payments.PaymentFailed, {RELEASE, CANCEL}),
        (shipping.ShippingFailed, {REFUND, RELEASE}),
        (payments.PaymentRefunded, {CANCEL}),
        (payments.PaymentCancelled, {CANCEL}),
        (inventory.StockReleased, {CANCEL}),
        (orders.OrderTimedOut, {CLOSE}),
        (orders.OrderCancelRequested, {CLOSE}),
    ],
)
def test_every_row_of_the_table(event: Any, reactions: set[str]) -> None:
    assert set(sagas.events.subscribers(event, ORDER_CHOREOGRAPHY.name)) == reactions


@pytest.mark.parametrize(
    ("reaction", "past", "acts"),
    [
        (ship_when_reserved_and_paid, [inventory.StockReserved], False),
        (ship_when_reserved_and_paid, [payments.PaymentCompleted], False),
        (ship_when_reserved_and_paid, [inventory.StockReserved, payments.PaymentCompleted], True),
        (
            ship_when_reserved_and_paid,
            [inventory.StockReserved, payments.PaymentCompleted, orders.OrderTimedOut],
            False,
        ),
        (
            ship_when_reserved_and_paid,
            [inventory.StockReserved, payments.PaymentCompleted, orders.OrderCancelRequested],
            False,
        ),
        (cancel_when_settled, [payments.PaymentFailed], False),
        (cancel_when_settled, [inventory.StockReleased], False),
        (cancel_when_settled, [payments.PaymentCancelled, inventory.StockUnavailable], True),
    ],
)
def test_what_waits_for_two_events(reaction: Any, past: list[str], acts: bool) -> None:
    assert (reaction(History(StoredEvent(event_type=event) for event in past)) is not None) is acts


@pytest.mark.parametrize("next_", [CHARGE, REFUND])
def test_where_stock_is_unavailable_first_the_charge_is_never_made(
    post: Post, monkeypatch: pytest.MonkeyPatch, next_: str
) -> None:
    monkeypatch.setattr(SimulatedPaymentProvider, "capture", lambda *_: pytest.fail("charged"))
    placed = order(SOLD_OUT)

    post.deliver(RESERVE, next_)
    post.deliver_all()

    assert_clean(placed, "compensated")
    assert provider_ledger(placed) == ["void"]
    assert stored.events(placed.saga_id) == ["OrderCreated", "StockUnavailable", "PaymentCancelled", "OrderCancelled"]


def test_a_charge_under_way_when_stock_is_unavailable_is_refunded_and_not_published(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = order(SOLD_OUT)
    capture = SimulatedPaymentProvider.capture

    def slowly(*asked: Any) -> Any:
        post.deliver(RESERVE)
        return capture(*asked)

    monkeypatch.setattr(SimulatedPaymentProvider, "capture", slowly)
    post.deliver(CHARGE)
    post.deliver_all()

    assert_clean(placed, "compensated")
    assert provider_ledger(placed) == ["capture", "refund"]
    assert stored.events(placed.saga_id) == ["OrderCreated", "StockUnavailable", "PaymentRefunded", "OrderCancelled"]


def test_a_booking_that_was_first_wins_over_a_cancellation(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    book = SimulatedCarrier.book
    placed = order()
    post.deliver(RESERVE, CHARGE)

    def cancelled_meanwhile(*call: Any) -> str:
        sagas.cancel(placed.saga_id)
        return book(*call)

    monkeypatch.setattr(SimulatedCarrier, "book", cancelled_meanwhile)
    post.deliver(SHIP, CLOSE)
    post.deliver_all()

    assert_clean(placed, "completed")
    with pytest.raises(Conflict, match="point of no return"):
        sagas.cancel(placed.saga_id)


@pytest.mark.parametrize(
    ("victim", "resumed"), [(RESERVE, False), (CHARGE, True), (REFUND, False), (REFUND, True), (NOTIFY, False)]
)
def test_what_was_revoked_is_done_when_it_is_sent_again(post: Post, clock: Clock, victim: str, resumed: bool) -> None:
    placed = order(shipping="decline")
    post.deliver_until(victim)
    post.revoke(victim)
    post.deliver_all()

    if resumed:
        sagas.resume(placed.saga_id)
    else:
        clock.forward(1.5)  # stalled, and not overdue
        sagas.sweep()
    post.deliver_all()

    assert_clean(placed, "compensated")
    assert stored.column("SELECT count(*) FROM notifications WHERE order_id = :id", id=placed.order_id) == [1]


def test_the_sweep_waits_while_an_order_makes_progress(post: Post, clock: Clock) -> None:
    order()
    clock.forward(0.9)
    post.deliver(RESERVE)
    waiting = list(post.waiting)

    clock.forward(0.2)
    sagas.sweep()

    assert post.waiting == waiting


def test_an_overdue_order_is_found_at_its_deadline_even_while_it_makes_progress(post: Post, clock: Clock) -> None:
    placed = order()
    clock.forward(1.9)
    post.deliver(RESERVE)
    clock.forward(0.05)
    sagas.sweep()

    saga = stored.saga(placed.saga_id)
    assert saga.wake_at == saga.deadline_at
    clock.forward(0.1)
    assert sagas.sweep().timed_out == 1


def test_a_resume_publishes_again_what_no_repetition_would(post: Post) -> None:
    placed = order(shipping="decline")
    post.deliver_until(CANCEL)
    post.waiting.clear()  # no message says that all is compensated
    with runtime.current().database.transaction() as session:
        # as if the reactions had other names when they did it, before a deploy
        session.query(SagaStep).update({SagaStep.delivery_id: "another"})

    sagas.resume(placed.saga_id)
    post.deliver_all()

    assert_clean(placed, "compensated")


def test_a_redelivered_message_does_not_call_the_gateway_again(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    order(shipping="decline")
    charge = post.take(CHARGE)
    run(charge)
    post.deliver(RESERVE, SHIP)
    refund = post.take(REFUND)
    run(refund)
    called: list[str] = []
    for name in ("capture", "void"):
        monkeypatch.setattr(SimulatedPaymentProvider, name, lambda *_: called.append("again"))

    run(charge)
    run(refund)

    assert called == []


def test_a_declined_charge_is_never_made_by_a_redelivery(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = order()
    charge = post.take(CHARGE)
    with monkeypatch.context() as patch:
        patch.setattr(SimulatedPaymentProvider, "capture", declines)
        run(charge)

    run(charge)
    post.deliver_all()

    assert_clean(placed, "compensated")
    assert "capture" not in provider_ledger(placed)


@pytest.mark.parametrize("effect_first", [True, False])
def test_a_charge_that_is_declined_while_a_repetition_of_it_succeeds_is_voided(
    post: Post, monkeypatch: pytest.MonkeyPatch, effect_first: bool
) -> None:
    capture = SimulatedPaymentProvider.capture
    placed = order()
    charge = post.take(CHARGE)

    def captures_while_a_repetition_is_declined(*arguments: Any) -> Any:
        receipt = capture(*arguments) if effect_first else None
        with monkeypatch.context() as patch:
            patch.setattr(SimulatedPaymentProvider, "capture", declines)
            run(charge)
        return receipt or capture(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(SimulatedPaymentProvider, "capture", captures_while_a_repetition_is_declined)
        run(charge)
    post.deliver_all()

    assert_clean(placed, "compensated")


def test_a_refund_that_fails_while_a_repetition_of_it_succeeds_is_done(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    void = SimulatedPaymentProvider.void
    placed = order(shipping="decline")
    post.deliver(RESERVE, CHARGE, SHIP)
    refund = post.take(REFUND)

    def fails_while_a_repetition_succeeds(*_: Any) -> Any:
        monkeypatch.setattr(SimulatedPaymentProvider, "void", void)
        run(refund)
        raise StepUnavailable("no answer")

    monkeypatch.setattr(SimulatedPaymentProvider, "void", fails_while_a_repetition_succeeds)
    run(refund)
    post.deliver_all()

    assert_clean(placed, "compensated")


def test_an_ended_saga_is_not_stuck_by_a_late_message_that_fails(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
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
    placed = order(payments="timeout")
    with monkeypatch.context() as patch:
        patch.setattr(SimulatedPaymentProvider, "void", unreachable)
        post.deliver(CHARGE)
    assert stored.saga(placed.saga_id).status == "stuck"
    row = stored.step(placed.saga_id, "process_payment")
    assert (row.status, row.attempts) == (StepStatus.CLOSING, 2 + 7)

    sagas.resume(placed.saga_id)
    post.deliver_all()

    assert_clean(placed, "compensated")
    assert stored.column("SELECT status FROM payments WHERE order_id = :id", id=placed.order_id) == ["refunded"]


def test_the_customer_is_notified_why_it_was_cancelled_and_not_what_it_was_stuck_on(here: Runtime) -> None:
    placed = order(shipping="decline", payments="undo-fail:8")
    sagas.resume(placed.saga_id)

    (message,) = stored.column("SELECT message FROM notifications WHERE order_id = :id", id=placed.order_id)
    assert "declined" in message
