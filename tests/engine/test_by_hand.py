"""Skipping: somebody says that a compensation was done by hand, and the saga goes on. And resuming many at once."""

from typing import Any

import pytest
from sqlalchemy import text

from app import runtime
from app.celery import app as celery
from app.errors import Conflict, NotFound, StepUnavailable
from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas.definition import Operation, StepStatus
from durable_sagas.ids import new_id
from durable_sagas.manual_completion import ManualCompletion
from durable_sagas.models import SagaInstance, SagaStep
from tasks.gateways.carrier import SimulatedCarrier
from tasks.gateways.payment_provider import SimulatedPaymentProvider
from tests.engine import trip
from tests.testkit.messages import ERROR_CALLBACK, Clock, Post, run
from tests.testkit.orders import refuse_to_resume
from workflows.operations.audit import audit
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place

ANN = ManualCompletion(by="Ann", note="paid back by bank transfer")

both = pytest.mark.parametrize("pattern", Pattern)


def order(pattern: Pattern, **simulate: str) -> PlacedOrder:
    return place(NewOrder((Item("book-789", 1),), pattern, simulate=tuple(simulate.items())))


def saga(placed: PlacedOrder) -> SagaInstance:
    with runtime.current().database.reading() as session:
        return session.get_one(SagaInstance, placed.saga_id)


def step(placed: PlacedOrder, name: str, operation: Operation = Operation.COMPENSATION) -> SagaStep:
    with runtime.current().database.reading() as session:
        return session.get_one(SagaStep, (placed.saga_id, name, operation))


def scalar(statement: str, placed: PlacedOrder) -> Any:
    with runtime.current().database.reading() as session:
        return session.execute(text(statement), {"id": placed.order_id}).scalar_one_or_none()


def unreachable(*_: Any) -> Any:
    raise StepUnavailable("no answer")


def assert_undone(placed: PlacedOrder) -> None:
    assert saga(placed).status == "compensated"
    assert scalar("SELECT status FROM orders WHERE id = :id", placed) == "cancelled"
    assert list(audit()) == []


@both
@pytest.mark.parametrize("service", ["payments", "inventory", "orders"])
def test_a_compensation_done_by_hand_is_believed_and_the_rest_is_undone(
    here: Runtime, pattern: Pattern, service: str
) -> None:
    undone_step = {"payments": "process_payment", "inventory": "reserve_stock", "orders": "create_order"}[service]
    placed = order(pattern, shipping="decline", **{service: "undo-fail:99"})
    assert (saga(placed).status, saga(placed).current_step) == ("stuck", undone_step)

    sagas.skip(placed.saga_id, ANN)

    assert_undone(placed)
    row = step(placed, undone_step)
    assert (row.status, row.done_by, row.note) == (StepStatus.BY_HAND, "Ann", "paid back by bank transfer")
    assert (row.attempts, len(row.failures)) == (7, 7)  # what was tried before stays in the log
    assert "unavailable" in str(row.error)


@both
def test_a_payment_given_back_by_hand_is_recorded_as_refunded(here: Runtime, pattern: Pattern) -> None:
    placed = order(pattern, shipping="decline", payments="undo-fail:99")

    sagas.skip(placed.saga_id, ANN)

    assert scalar("SELECT status FROM payments WHERE order_id = :id", placed) == "refunded"
    refunded = "SELECT count(*) FROM events WHERE aggregate_id = :id AND event_type = 'PaymentRefunded'"
    assert scalar(refunded, placed) == 1


def test_a_booking_cancelled_by_hand_is_recorded(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = order(Pattern.ORCHESTRATION, shipping="decline")
    assert saga(placed).status == "compensated"  # this fault does not keep the carrier from voiding
    monkeypatch.setattr(SimulatedCarrier, "void", unreachable)
    placed = order(Pattern.ORCHESTRATION, shipping="timeout")
    assert saga(placed).current_step == "arrange_shipping"

    sagas.skip(placed.saga_id, ANN)

    assert_undone(placed)
    assert scalar("SELECT status FROM shipments WHERE order_id = :id", placed) == "cancelled"


def test_a_charge_voided_by_hand_lets_the_choreography_say_that_it_failed(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SimulatedPaymentProvider, "void", unreachable)
    placed = order(Pattern.CHOREOGRAPHY, payments="timeout")
    post.deliver_all()
    assert step(placed, "process_payment", Operation.ACTION).status == StepStatus.CLOSING

    sagas.skip(placed.saga_id, ANN)
    post.deliver_all()

    assert_undone(placed)
    row = step(placed, "process_payment", Operation.ACTION)
    assert (row.status, row.done_by) == (StepStatus.FAILED, "Ann")


def test_where_several_are_stuck_the_step_must_be_named(here: Runtime) -> None:
    placed = order(Pattern.CHOREOGRAPHY, shipping="decline", payments="undo-fail:99", inventory="undo-fail:99")
    with pytest.raises(Conflict, match="stuck on process_payment and on reserve_stock: say which"):
        sagas.skip(placed.saga_id, ANN)
    with pytest.raises(Conflict, match="not on arrange_shipping"):
        sagas.skip(placed.saga_id, ManualCompletion(by="Ann", step="arrange_shipping"))

    sagas.skip(placed.saga_id, ManualCompletion(by="Ann", step="process_payment"))
    assert (saga(placed).status, saga(placed).current_step) == ("stuck", "reserve_stock")
    sagas.skip(placed.saga_id, ManualCompletion(by="Bob"))

    assert_undone(placed)


def test_one_word_covers_a_step_that_is_stuck_twice(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedPaymentProvider, "void", unreachable)
    placed = order(Pattern.CHOREOGRAPHY, inventory="decline", payments="timeout")
    post.deliver("payments.charge_on_order_created")  # given up, and voiding it as well
    assert step(placed, "process_payment", Operation.ACTION).status == StepStatus.CLOSING
    post.deliver_all()  # and the refund that the missing stock asks for
    assert step(placed, "process_payment").status == StepStatus.FAILED

    sagas.skip(placed.saga_id, ANN)
    post.deliver_all()

    assert_undone(placed)


def test_what_is_still_being_voided_is_not_given_up(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    void = SimulatedPaymentProvider.void
    monkeypatch.setattr(SimulatedPaymentProvider, "void", killed)
    placed = order(Pattern.CHOREOGRAPHY, payments="timeout", inventory="undo-fail:99")
    charge = post.take("payments.charge_on_order_created")
    with pytest.raises(KeyboardInterrupt):
        run(charge)  # its worker is killed while it voids; the message will come again
    post.deliver("inventory.reserve_on_order_created")
    sagas.cancel(placed.saga_id)
    post.deliver("shipping.settle_on_time_out_or_cancel_request")
    post.deliver("inventory.release_on_failure")
    assert saga(placed).current_step == "reserve_stock"

    sagas.skip(placed.saga_id, ANN)
    assert saga(placed).status == "compensating"
    monkeypatch.setattr(SimulatedPaymentProvider, "void", void)
    run(charge)
    post.deliver_all()

    assert_undone(placed)


def test_a_saga_that_moves_again_says_no_more_what_it_was_stuck_on(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedPaymentProvider, "void", unreachable)
    placed = order(Pattern.CHOREOGRAPHY, inventory="decline", payments="timeout")
    post.deliver("payments.charge_on_order_created")
    assert saga(placed).stuck_reason

    post.deliver("inventory.reserve_on_order_created")

    assert (saga(placed).status, saga(placed).stuck_reason) == ("compensating", None)


def test_a_saga_that_is_stuck_on_two_steps_is_found_by_either(here: Runtime) -> None:
    placed = order(Pattern.CHOREOGRAPHY, shipping="decline", payments="undo-fail:8", inventory="undo-fail:8")
    other = {"process_payment": "reserve_stock", "reserve_stock": "process_payment"}[str(saga(placed).current_step)]

    assert sagas.resume_stuck(other).resumed == [placed.saga_id]

    assert_undone(placed)


def test_an_orchestrated_saga_is_stuck_on_one_step_only(here: Runtime) -> None:
    placed = order(Pattern.ORCHESTRATION, shipping="decline", payments="undo-fail:99")

    with pytest.raises(Conflict, match="it is stuck on process_payment, not on reserve_stock"):
        sagas.skip(placed.saga_id, ManualCompletion(by="Ann", step="reserve_stock"))


def test_past_the_point_of_no_return_nothing_is_skipped(here: Runtime) -> None:
    placed = order(Pattern.CHOREOGRAPHY, orders="fail:99")
    assert (saga(placed).status, saga(placed).current_step) == ("stuck", "complete_order")

    with pytest.raises(Conflict, match="resume it"):
        sagas.skip(placed.saga_id, ANN)


@pytest.mark.usefixtures("agency")
def test_an_orchestrated_action_is_not_skipped_either() -> None:
    saga_id = trip.start(fail={"send_tickets": 2})
    assert trip.saga(saga_id).status == "stuck"

    with pytest.raises(Conflict, match="resume it"):
        sagas.skip(saga_id, ANN)


@pytest.mark.usefixtures("agency")
def test_a_compensation_whose_service_has_nothing_to_record_is_only_logged() -> None:
    saga_id = trip.start(refuse=["book_flight"], fail={"cancel_car": 99})

    sagas.skip(saga_id, ANN)

    assert trip.saga(saga_id).status == "compensated"
    assert trip.booked(saga_id) == {"car"}  # the person has seen to it, outside
    row = trip.step(saga_id, "book_car", "compensation")
    assert row is not None
    assert row.status == StepStatus.BY_HAND


@both
def test_what_its_service_cannot_record_is_refused(here: Runtime, pattern: Pattern) -> None:
    placed = order(pattern, shipping="decline", orders="undo-fail:99")
    with runtime.current().database.transaction() as session:
        session.execute(text("UPDATE orders SET status = 'completed' WHERE id = :id"), {"id": placed.order_id})

    with pytest.raises(Conflict, match=r"cannot be recorded as done: order .* is completed, not pending"):
        sagas.skip(placed.saga_id, ANN)

    assert saga(placed).status == "stuck"


@both
def test_only_what_is_stuck_can_be_skipped(post: Post, pattern: Pattern) -> None:
    placed = order(pattern)

    with pytest.raises(Conflict, match="nothing to skip: the saga is"):
        sagas.skip(placed.saga_id, ANN)
    with pytest.raises(NotFound):
        sagas.skip(new_id(), ANN)


@both
def test_the_compensation_that_comes_late_does_nothing(post: Post, pattern: Pattern) -> None:
    placed = order(pattern, shipping="decline", payments="undo-fail:99")
    refund = "payments.refund_payment" if pattern is Pattern.ORCHESTRATION else "payments.refund_on_failure"
    late = None
    while post.waiting:
        late = next((message for message in post.waiting if message.task == refund), late)
        run(post.waiting.pop(0))
        if pattern is Pattern.ORCHESTRATION and not post.waiting and saga(placed).status == "running":
            celery.tasks[ERROR_CALLBACK](saga_id=placed.saga_id)
    assert late is not None
    sagas.skip(placed.saga_id, ANN)
    run(late)
    post.deliver_all()
    run(late)

    assert_undone(placed)
    assert scalar("SELECT count(*) FROM payment_provider_ledger WHERE order_id = :id AND kind = 'refund'", placed) == 0


def test_an_action_that_comes_after_its_undoing_by_hand_does_nothing(post: Post) -> None:
    placed = order(Pattern.CHOREOGRAPHY, payments="decline", inventory="undo-fail:99")
    reserve = post.take("inventory.reserve_on_order_created")
    post.deliver_all()
    assert saga(placed).current_step == "reserve_stock"

    sagas.skip(placed.saga_id, ANN)
    run(reserve)
    post.deliver_all()

    assert_undone(placed)


@both
def test_all_that_are_stuck_on_one_step_are_resumed(here: Runtime, pattern: Pattern) -> None:
    stuck = [order(pattern, shipping="decline", payments="undo-fail:8") for _ in range(5)]
    other = order(pattern, shipping="decline", inventory="undo-fail:8")

    first = sagas.resume_stuck("process_payment", limit=3)
    second = sagas.resume_stuck("process_payment", after=first.next_after, limit=3)

    assert [*first.resumed, *second.resumed] == [placed.saga_id for placed in stuck]
    assert (first.refused, second.refused, second.next_after) == ({}, {}, None)
    for placed in stuck:
        assert_undone(placed)
    assert saga(other).status == "stuck"


def test_one_that_cannot_be_resumed_holds_up_no_other(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = [order(Pattern.ORCHESTRATION, shipping="decline", payments="undo-fail:8") for _ in range(3)]
    refuse_to_resume(stuck[0].saga_id, monkeypatch)

    done = sagas.resume_stuck("process_payment")

    assert done.resumed == [placed.saga_id for placed in stuck[1:]]
    assert list(done.refused) == [stuck[0].saga_id]


CANCELLABLE = ["orders.create_order", "inventory.reserve_stock", "payments.process_payment"]


@pytest.mark.parametrize("done", range(4))
def test_an_orchestrated_saga_is_cancelled_at_every_step_before_its_pivot(post: Post, done: int) -> None:
    placed = order(Pattern.ORCHESTRATION)
    for task_name in CANCELLABLE[:done]:
        post.deliver(task_name)

    sagas.cancel(placed.saga_id)
    sagas.cancel(placed.saga_id)  # asking again changes nothing
    assert saga(placed).status == "compensating"
    post.deliver_all()
    sagas.cancel(placed.saga_id)

    assert_undone(placed)


@pytest.mark.parametrize("more", range(3))
def test_an_orchestrated_saga_is_not_cancelled_after_its_pivot(post: Post, more: int) -> None:
    placed = order(Pattern.ORCHESTRATION)
    for task_name in [*CANCELLABLE, "shipping.arrange_shipping", "inventory.ship_stock", "orders.complete_order"][
        : 4 + more
    ]:
        post.deliver(task_name)

    with pytest.raises(Conflict, match="point of no return"):
        sagas.cancel(placed.saga_id)
    post.deliver_all()

    assert saga(placed).status == "completed"
    assert list(audit()) == []


@both
def test_what_is_stuck_while_it_is_undone_is_to_be_resumed_and_not_cancelled(here: Runtime, pattern: Pattern) -> None:
    placed = order(pattern, shipping="decline", payments="undo-fail:8")

    with pytest.raises(Conflict, match="stuck: resume it"):
        sagas.cancel(placed.saga_id)


def test_a_skipped_choreography_whose_event_was_lost_is_driven_on_by_the_sweep(post: Post, clock: Clock) -> None:
    placed = order(Pattern.CHOREOGRAPHY, shipping="decline", payments="undo-fail:99")
    post.deliver_all()
    sagas.skip(placed.saga_id, ANN)
    post.waiting.clear()

    for _ in range(3):
        clock.forward(2)
        sagas.sweep()
        post.deliver_all()

    assert_undone(placed)
