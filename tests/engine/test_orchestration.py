"""The orchestrator on a small saga of the tests' own: forward, back, again, late, and stuck."""

from datetime import timedelta

import pytest
from celery.app.trace import build_tracer
from sqlalchemy.orm import Session

from app import fault_injection, runtime
from app.celery import app as celery
from app.errors import Conflict, StepFailed
from app.sagas import sagas
from durable_sagas import recovery, signals, state_machine
from durable_sagas.definition import Guard, Step
from durable_sagas.ids import new_id
from durable_sagas.models import SagaInstance
from tasks.gateways.payment_provider import SimulatedPaymentProvider
from tests.engine import trip
from tests.testkit import stored
from tests.testkit.messages import Clock, Post, run
from tests.testkit.orders import order
from workflows.orders import Pattern

pytestmark = pytest.mark.usefixtures("agency")

HOTEL, CAR, FLIGHT = "orders.book_hotel", "inventory.book_car", "shipping.book_flight"


def test_it_runs_every_step_in_order() -> None:
    saga_id = trip.start()

    assert stored.saga(saga_id).status == "completed"
    assert trip.diary == ["book_hotel", "book_car", "book_flight", "send_tickets"]
    assert trip.states(saga_id) == ["STARTED", "HOTEL_BOOKED", "CAR_BOOKED", "COMPLETED"]
    assert trip.booked(saga_id) == {"hotel", "car", "flight"}


def test_a_rejection_is_not_retried_and_undoes_in_reverse() -> None:
    saga_id = trip.start(refuse=["book_flight"])

    assert stored.saga(saga_id).status == "compensated"
    assert trip.diary == ["book_hotel", "book_car", "book_flight", "cancel_car", "cancel_hotel"]
    assert trip.states(saga_id) == ["STARTED", "HOTEL_BOOKED", "CAR_BOOKED", "COMPENSATION_STARTED", "FAILED"]
    assert stored.saga(saga_id).error == "book_flight: no book_flight"
    assert trip.booked(saga_id) == set()


def test_transient_faults_are_retried_and_leave_nothing_behind() -> None:
    saga_id = trip.start(fail={"book_car": 2})

    assert stored.logged(saga_id, "book_car") == ("completed", 3, ["book_car is down"] * 2)
    assert trip.booked(saga_id) == {"hotel", "car", "flight"}


def test_a_compensation_out_of_retries_is_stuck_and_a_resume_has_a_full_round() -> None:
    saga_id = trip.start(refuse=["book_flight"], fail={"cancel_car": 3})
    saga = stored.saga(saga_id)
    assert (saga.status, saga.current_step) == ("stuck", "book_car")
    assert saga.failure_reason == "inventory.cancel_car: cancel_car is down"
    assert trip.booked(saga_id) == {"hotel", "car"}

    sagas.resume(saga_id)

    saga = stored.saga(saga_id)
    assert saga.status == "compensated"
    assert saga.failure_reason == "book_flight: no book_flight"
    assert trip.diary.count("cancel_car") == 4
    assert trip.booked(saga_id) == set()


def test_past_the_pivot_a_failing_step_is_stuck_and_never_undone() -> None:
    saga_id = trip.start(fail={"send_tickets": 2})
    assert stored.saga(saga_id).status == "stuck"
    with pytest.raises(Conflict, match="point of no return"):
        sagas.cancel(saga_id)

    sagas.resume(saga_id)

    assert stored.saga(saga_id).status == "completed"
    assert trip.booked(saga_id) == {"hotel", "car", "flight"}


def test_a_guard_is_asked_before_the_gateway() -> None:
    calls: list[str] = []

    def fly(_: object, key: str) -> None:
        calls.append(key)

    @sagas.command("shipping.fly", call=fly)
    def fly_there(session: Session, trip: trip.Trip, _: None) -> None:
        calls.append("recorded")

    @sagas.command("shipping.stay", call=fly)
    def stay_here(session: Session, trip: trip.Trip, _: None) -> None:
        calls.append("undone")

    never = Guard("never", lambda _: False)
    flight = sagas.saga("flight-nobody-takes", Step(fly_there, stay_here, guard=never))
    aggregate_id = new_id()
    with runtime.current().database.transaction() as session:
        saga_id = flight.start(session, aggregate_id, {"trip": aggregate_id}).id

    assert stored.saga(saga_id).error == "fly: guard: never"
    assert calls == [f"{saga_id}:fly", "undone"]  # only the voiding, which is always asked for


def test_a_declined_charge_that_is_delivered_again_only_calls_the_error_callback_again(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = order(Pattern.ORCHESTRATION, payments="decline")
    post.deliver("orders.create_order", "inventory.reserve_stock")
    charge = post.take("payments.process_payment")
    run(charge)
    monkeypatch.setattr(fault_injection, "intercept", lambda *_: None)
    monkeypatch.setattr(SimulatedPaymentProvider, "capture", lambda *_: pytest.fail("asked again"))

    # not by get(), which Celery forbids wherever a worker has run in the process
    failure = charge.apply().result

    assert isinstance(failure, StepFailed)
    assert "declined" in str(failure)
    assert stored.saga(placed.saga_id).status == "running"  # the error callback was held back by the test


@pytest.mark.parametrize("cancelled", [True, False], ids=["the saga is compensated", "another chain was faster"])
def test_a_message_that_comes_too_late_ends_its_chain(post: Post, cancelled: bool) -> None:
    saga_id = trip.start()
    if cancelled:
        sagas.cancel(saga_id)
    else:
        post.deliver(HOTEL)
    waiting = post.names()
    rest = celery.signature(CAR, kwargs={"saga_id": saga_id}, immutable=True, task_id=new_id())
    tracer = build_tracer(HOTEL, celery.tasks[HOTEL], app=celery)  # as any worker has it, also an embedded one

    tracer("task", [], {"saga_id": saga_id}, {"chain": [dict(rest)]})

    assert post.names() == waiting


def test_a_saga_that_was_never_published_is_published_by_the_sweep(post: Post, clock: Clock) -> None:
    saga_id = trip.start()
    post.waiting.clear()

    clock.forward(0.5)
    assert sagas.sweep().driven == 0
    clock.forward(0.6)
    trip.allow(saga_id, 60)
    assert sagas.sweep().driven == 1
    post.deliver_all()

    assert stored.saga(saga_id).status == "completed"


def test_what_is_overdue_is_undone_by_the_sweep(post: Post, clock: Clock) -> None:
    saga_id = trip.start()
    post.deliver(HOTEL)
    post.waiting.clear()

    clock.forward(1.1)
    assert sagas.sweep().timed_out == 1
    post.deliver_all()

    assert stored.saga(saga_id).status == "compensated"
    assert stored.saga(saga_id).error == "book_car: no result before its deadline"
    assert trip.booked(saga_id) == set()


def test_each_step_has_its_own_deadline_or_the_installations(post: Post, clock: Clock) -> None:
    saga_id = trip.start()
    assert stored.saga(saga_id).deadline_at == clock() + timedelta(seconds=1)

    post.deliver(HOTEL, CAR)

    assert stored.saga(saga_id).deadline_at == clock() + timedelta(seconds=5)


def test_past_the_pivot_what_is_overdue_is_driven_on_and_has_no_deadline_any_more(post: Post, clock: Clock) -> None:
    saga_id = trip.start()
    post.deliver(HOTEL, CAR, FLIGHT)
    post.waiting.clear()

    clock.forward(1.1)
    assert sagas.sweep().timed_out == 1
    for seconds in (0, 10):
        clock.forward(seconds)
        sagas.sweep()
        assert stored.saga(saga_id).deadline_at is None
    post.deliver_all()

    assert stored.saga(saga_id).status == "completed"


def test_a_sweep_leaves_alone_what_another_has_just_taken(post: Post, clock: Clock) -> None:
    trip.start()
    clock.forward(1.1)

    assert sagas.sweep() == recovery.SweepResult(driven=0, timed_out=1, resent=0)
    assert sagas.sweep() == recovery.SweepResult(driven=0, timed_out=0, resent=0)


def test_what_has_ended_is_looked_at_no_more(post: Post, clock: Clock) -> None:
    saga_id = trip.start()
    post.deliver_all()
    with runtime.current().database.transaction() as session:
        session.get_one(SagaInstance, saga_id).wake_at = clock()

    assert sagas.sweep() == recovery.SweepResult(driven=0, timed_out=0, resent=0)

    assert stored.saga(saga_id).wake_at is None


def test_a_step_that_nobody_knows_anything_of_makes_the_saga_stuck_in_time_and_loses_nothing(
    post: Post, clock: Clock
) -> None:
    saga_id = trip.start()
    with runtime.current().database.transaction() as session:
        session.get_one(SagaInstance, saga_id).steps = ["book_hotel", "book_tent"]

    post.deliver(HOTEL)
    clock.forward(60)
    sagas.sweep()
    assert (stored.saga(saga_id).status, trip.diary) == ("pending", [])
    clock.forward(state_machine.ABANDONED_AFTER_SECONDS + 1)
    sagas.sweep()

    saga = stored.saga(saga_id)
    assert saga.status == "stuck"
    assert saga.failure_reason == "no running process declares all of saga trip"


def test_the_result_of_an_operation_without_one_is_null_for_sql_too() -> None:
    saga_id = trip.start()

    query = "SELECT step FROM saga_steps WHERE saga_id = :id AND result IS NULL"
    assert stored.column(query, id=saga_id) == ["send_tickets"]


def test_how_long_a_step_took_includes_its_work(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[signals.SagaSignal] = []
    monkeypatch.setattr(sagas.signals, "_listeners", [told.append])
    monkeypatch.setattr(trip, "_do", lambda *_: clock.forward(2))

    trip.start()

    took = [round(one.seconds or 0) for one in told if one.kind is signals.SignalType.STEP_COMPLETED]
    assert took == [2, 2, 2, 2]
