"""Manual completion: an operator states that a compensation was done outside. And resuming many, and cancelling."""

from typing import Any

import pytest

from app import runtime
from app.celery import app as celery
from app.errors import Conflict, NotFound, StepUnavailable
from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas.definition import StepStatus
from durable_sagas.ids import new_id
from durable_sagas.manual_completion import ManualCompletion
from tasks.gateways.carrier import SimulatedCarrier
from tasks.gateways.payment_provider import SimulatedPaymentProvider
from tasks.orders import Order, OrderStatus
from tests.engine import trip
from tests.testkit import stored
from tests.testkit.messages import ERROR_CALLBACK, Clock, Post, run
from tests.testkit.orders import order, refuse_to_resume
from workflows.operations.audit import audit
from workflows.orders import Pattern, PlacedOrder

ANN = ManualCompletion(by="Ann", note="paid back by bank transfer")
CHARGE, RESERVE = "payments.charge_on_order_created", "inventory.reserve_on_order_created"
ORCHESTRATION, CHOREOGRAPHY = Pattern.ORCHESTRATION, Pattern.CHOREOGRAPHY

both = pytest.mark.parametrize("pattern", Pattern)


def stuck_on(placed: PlacedOrder) -> str | None:
    saga = stored.saga(placed.saga_id)
    return saga.current_step if saga.status == "stuck" else None


def unreachable(*_: Any) -> Any:
    raise StepUnavailable("no answer")


def assert_compensated(placed: PlacedOrder) -> None:
    assert stored.saga(placed.saga_id).status == "compensated"
    assert stored.column("SELECT status FROM orders WHERE id = :id", id=placed.order_id) == ["cancelled"]
    assert list(audit()) == []


@both
@pytest.mark.parametrize(
    ("service", "step", "event", "record"),
    [
        ("payments", "process_payment", "PaymentRefunded", ("payments", "refunded")),
        ("inventory", "reserve_stock", "StockReleased", ("stock_reservations", "released")),
        ("orders", "create_order", "OrderCancelled", ("stock_reservations", "released")),
    ],
)
def test_a_manual_completion_is_recorded_and_the_rest_is_compensated(
    here: Runtime, pattern: Pattern, service: str, step: str, event: str, record: tuple[str, str]
) -> None:
    placed = order(pattern, shipping="decline", **{service: "undo-fail:99"})
    assert stuck_on(placed) == step

    sagas.skip(placed.saga_id, ANN)

    assert_compensated(placed)
    row = stored.step(placed.saga_id, step, "compensation")
    assert (row.status, row.done_by, row.note) == (StepStatus.BY_HAND, "Ann", "paid back by bank transfer")
    assert (row.attempts, len(row.failures)) == (7, 7)  # what was tried before stays in the log
    assert "unavailable" in str(row.error)
    table, status = record
    assert stored.column(f"SELECT status FROM {table} WHERE order_id = :id", id=placed.order_id) == [status]
    assert stored.events(placed.saga_id).count(event) == 1


def test_a_booking_that_was_cancelled_manually_is_recorded(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedCarrier, "void", unreachable)
    placed = order(ORCHESTRATION, shipping="timeout")
    assert stuck_on(placed) == "arrange_shipping"

    sagas.skip(placed.saga_id, ANN)

    assert_compensated(placed)
    assert stored.column("SELECT status FROM shipments WHERE order_id = :id", id=placed.order_id) == ["cancelled"]


def test_where_several_are_stuck_the_step_must_be_named(here: Runtime) -> None:
    placed = order(CHOREOGRAPHY, shipping="decline", payments="undo-fail:99", inventory="undo-fail:99")
    with pytest.raises(Conflict, match="stuck on process_payment and on reserve_stock: say which"):
        sagas.skip(placed.saga_id, ANN)
    with pytest.raises(Conflict, match="not on arrange_shipping"):
        sagas.skip(placed.saga_id, ManualCompletion(by="Ann", step="arrange_shipping"))

    sagas.skip(placed.saga_id, ManualCompletion(by="Ann", step="process_payment"))
    assert stuck_on(placed) == "reserve_stock"
    sagas.skip(placed.saga_id, ManualCompletion(by="Bob"))

    assert_compensated(placed)


def test_an_orchestrated_saga_is_stuck_on_one_step_only(here: Runtime) -> None:
    placed = order(ORCHESTRATION, shipping="decline", payments="undo-fail:99")

    with pytest.raises(Conflict, match="it is stuck on process_payment, not on reserve_stock"):
        sagas.skip(placed.saga_id, ManualCompletion(by="Ann", step="reserve_stock"))


@pytest.mark.parametrize("inventory", ["", "decline"], ids=["voided", "voided and refunded"])
def test_one_statement_covers_a_charge_whose_voiding_and_refund_failed(
    post: Post, monkeypatch: pytest.MonkeyPatch, inventory: str
) -> None:
    monkeypatch.setattr(SimulatedPaymentProvider, "void", unreachable)
    placed = order(CHOREOGRAPHY, payments="timeout", **({"inventory": inventory} if inventory else {}))
    post.deliver(CHARGE)  # given up, and voiding it as well
    assert stored.step(placed.saga_id, "process_payment").status == StepStatus.CLOSING
    post.deliver(RESERVE)
    assert (stored.saga(placed.saga_id).stuck_reason is None) == bool(inventory)  # the missing stock moves it again
    post.deliver_all()  # and asks for a refund

    sagas.skip(placed.saga_id, ANN)
    post.deliver_all()

    assert_compensated(placed)
    row = stored.step(placed.saga_id, "process_payment")
    assert (row.status, row.done_by) == (StepStatus.FAILED, "Ann")


def test_what_is_still_being_voided_is_not_given_up(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    placed = order(CHOREOGRAPHY, payments="timeout", inventory="undo-fail:99")
    charge = post.take(CHARGE)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SimulatedPaymentProvider, "void", killed)
        run(charge)  # its worker is killed while it voids; the message will come again
    post.deliver(RESERVE)
    sagas.cancel(placed.saga_id)
    post.deliver("shipping.settle_on_time_out_or_cancel_request", "inventory.release_on_failure")
    assert stuck_on(placed) == "reserve_stock"

    sagas.skip(placed.saga_id, ANN)
    assert stored.saga(placed.saga_id).status == "compensating"
    run(charge)
    post.deliver_all()

    assert_compensated(placed)


def test_a_saga_that_is_stuck_on_two_steps_is_found_by_either(here: Runtime) -> None:
    placed = order(CHOREOGRAPHY, shipping="decline", payments="undo-fail:8", inventory="undo-fail:8")
    (other,) = {"process_payment", "reserve_stock"} - {str(stuck_on(placed))}

    assert sagas.resume_stuck(other).resumed == [placed.saga_id]

    assert_compensated(placed)


@pytest.mark.usefixtures("agency")
def test_past_the_point_of_no_return_nothing_is_skipped() -> None:
    placed = order(CHOREOGRAPHY, orders="fail:99")
    for saga_id in (placed.saga_id, trip.start(fail={"send_tickets": 2})):
        assert stored.saga(saga_id).status == "stuck"
        with pytest.raises(Conflict, match="resume it"):
            sagas.skip(saga_id, ANN)


@pytest.mark.usefixtures("agency")
def test_a_compensation_whose_service_has_nothing_to_record_is_only_logged() -> None:
    saga_id = trip.start(refuse=["book_flight"], fail={"cancel_car": 99})

    sagas.skip(saga_id, ANN)

    assert stored.saga(saga_id).status == "compensated"
    assert trip.booked(saga_id) == {"car"}  # the operator has seen to it, outside
    assert stored.step(saga_id, "book_car", "compensation").status == StepStatus.BY_HAND


@both
def test_what_its_service_cannot_record_is_refused(here: Runtime, pattern: Pattern) -> None:
    placed = order(pattern, shipping="decline", orders="undo-fail:99")
    with runtime.current().database.transaction() as session:
        session.get_one(Order, placed.order_id).status = OrderStatus.COMPLETED

    with pytest.raises(Conflict, match=r"cannot be recorded as done: order .* is completed, not pending"):
        sagas.skip(placed.saga_id, ANN)

    assert stuck_on(placed)


@both
def test_only_what_is_stuck_can_be_skipped(post: Post, pattern: Pattern) -> None:
    placed = order(pattern)

    with pytest.raises(Conflict, match="nothing to skip: the saga is"):
        sagas.skip(placed.saga_id, ANN)
    with pytest.raises(NotFound):
        sagas.skip(new_id(), ANN)


@both
def test_a_compensation_delivered_after_its_manual_completion_does_nothing(post: Post, pattern: Pattern) -> None:
    placed = order(pattern, shipping="decline", payments="undo-fail:99")
    if pattern is ORCHESTRATION:
        post.deliver_all()
        celery.tasks[ERROR_CALLBACK](saga_id=placed.saga_id)
        late = next(message for message in post.waiting if message.task == "payments.refund_payment")
    else:
        post.deliver_until("payments.refund_on_failure")
        late = next(message for message in post.waiting if message.task == "payments.refund_on_failure")
    post.deliver_all()
    sagas.skip(placed.saga_id, ANN)
    run(late)
    post.deliver_all()
    run(late)

    assert_compensated(placed)
    refunds = "SELECT 1 FROM payment_provider_ledger WHERE order_id = :id AND kind = 'refund'"
    assert stored.column(refunds, id=placed.order_id) == []


def test_an_action_delivered_after_its_manual_compensation_does_nothing(post: Post) -> None:
    placed = order(CHOREOGRAPHY, payments="decline", inventory="undo-fail:99")
    reserve = post.take(RESERVE)
    post.deliver_all()
    assert stuck_on(placed) == "reserve_stock"

    sagas.skip(placed.saga_id, ANN)
    run(reserve)
    post.deliver_all()

    assert_compensated(placed)


def test_after_a_skip_a_choreography_whose_event_was_lost_is_driven_on_by_the_sweep(post: Post, clock: Clock) -> None:
    placed = order(CHOREOGRAPHY, shipping="decline", payments="undo-fail:99")
    post.deliver_all()
    sagas.skip(placed.saga_id, ANN)
    post.waiting.clear()

    for _ in range(3):
        clock.forward(2)
        sagas.sweep()
        post.deliver_all()

    assert_compensated(placed)


@both
def test_all_that_are_stuck_on_one_step_are_resumed(here: Runtime, pattern: Pattern) -> None:
    stuck = [order(pattern, shipping="decline", payments="undo-fail:8") for _ in range(3)]
    other = order(pattern, shipping="decline", inventory="undo-fail:8")

    first = sagas.resume_stuck("process_payment", limit=2)
    second = sagas.resume_stuck("process_payment", after=first.next_after, limit=2)

    assert [*first.resumed, *second.resumed] == [placed.saga_id for placed in stuck]
    assert (first.refused, second.refused, second.next_after) == ({}, {}, None)
    for placed in stuck:
        assert_compensated(placed)
    assert stuck_on(other) == "reserve_stock"


def test_one_that_cannot_be_resumed_holds_up_no_other(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = [order(ORCHESTRATION, shipping="decline", payments="undo-fail:8") for _ in range(2)]
    refuse_to_resume(stuck[0].saga_id, monkeypatch)

    done = sagas.resume_stuck("process_payment")

    assert done.resumed == [placed.saga_id for placed in stuck[1:]]
    assert list(done.refused) == [stuck[0].saga_id]


@pytest.mark.parametrize(
    "after_pivot", [(), ("inventory.ship_stock",), ("inventory.ship_stock", "orders.complete_order")]
)
def test_an_orchestrated_saga_is_not_cancelled_after_its_pivot(post: Post, after_pivot: tuple[str, ...]) -> None:
    placed = order(ORCHESTRATION)
    post.deliver("orders.create_order", "inventory.reserve_stock", "payments.process_payment")
    post.deliver("shipping.arrange_shipping", *after_pivot)

    with pytest.raises(Conflict, match="point of no return"):
        sagas.cancel(placed.saga_id)
    post.deliver_all()

    assert stored.saga(placed.saga_id).status == "completed"
    assert list(audit()) == []


@both
def test_what_is_stuck_in_its_compensation_is_to_be_resumed_and_not_cancelled(here: Runtime, pattern: Pattern) -> None:
    placed = order(pattern, shipping="decline", payments="undo-fail:8")

    with pytest.raises(Conflict, match="stuck: resume it"):
        sagas.cancel(placed.saga_id)
