"""The orchestrator on a small saga of the tests' own: forward, back, again, late, and stuck."""

from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest
from celery.app.trace import build_tracer
from sqlalchemy import text
from sqlalchemy.orm import Session

from app import fault_injection, runtime
from app.celery import app as celery
from app.errors import Conflict, StepFailed
from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas import recovery, signals, state_machine
from durable_sagas.definition import Command, Guard, Step
from durable_sagas.deliveries import Delivery
from durable_sagas.execution import Execution
from durable_sagas.ids import new_id
from durable_sagas.messages import Reply
from durable_sagas.models import SagaInstance
from durable_sagas.orchestrator import CommandDeliveries
from tasks.gateways.payment_provider import SimulatedPaymentProvider
from tests.engine import trip
from tests.testkit.messages import ERROR_CALLBACK, Clock, Post, run
from workflows.orders import Item, NewOrder, Pattern, place

pytestmark = pytest.mark.usefixtures("agency")

TWO_STEPS = ("orders.book_hotel", "inventory.book_car")


def test_it_runs_every_step_in_order() -> None:
    saga_id = trip.start()

    assert trip.saga(saga_id).status == "completed"
    assert trip.diary == ["book_hotel", "book_car", "book_flight", "send_tickets"]
    assert trip.states(saga_id) == ["STARTED", "HOTEL_BOOKED", "CAR_BOOKED", "COMPLETED"]
    assert trip.booked(saga_id) == {"hotel", "car", "flight"}


def test_a_rejection_is_not_retried_and_undoes_in_reverse() -> None:
    saga_id = trip.start(refuse=["book_flight"])

    assert trip.saga(saga_id).status == "compensated"
    assert trip.diary == ["book_hotel", "book_car", "book_flight", "cancel_car", "cancel_hotel"]
    assert trip.states(saga_id) == ["STARTED", "HOTEL_BOOKED", "CAR_BOOKED", "COMPENSATION_STARTED", "FAILED"]
    assert trip.saga(saga_id).error == "book_flight: no book_flight"
    assert trip.booked(saga_id) == set()


def test_a_failing_local_step_has_nothing_to_undo() -> None:
    saga_id = trip.start(refuse=["book_car"])

    compensation = trip.step(saga_id, "book_car", "compensation")
    assert compensation is not None
    assert compensation.status == "skipped"
    assert "cancel_car" not in trip.diary


def test_transient_faults_are_retried_and_leave_nothing_behind() -> None:
    saga_id = trip.start(fail={"book_car": 2})

    row = trip.step(saga_id, "book_car")
    assert row is not None
    assert (row.status, row.attempts) == ("completed", 3)
    assert [failure["error"] for failure in row.failures] == ["book_car is down"] * 2
    assert trip.booked(saga_id) == {"hotel", "car", "flight"}


def test_out_of_retries_it_is_undone() -> None:
    saga_id = trip.start(fail={"book_car": 3})

    assert trip.saga(saga_id).status == "compensated"
    assert trip.diary.count("book_car") == 3
    assert trip.booked(saga_id) == set()


def test_a_guard_that_does_not_hold_rejects_the_step() -> None:
    saga_id = trip.start(licence=False)

    assert trip.saga(saga_id).error == "book_car: guard: the traveller must have a licence"
    assert trip.diary == ["book_hotel", "cancel_hotel"]


def test_a_compensation_out_of_retries_is_stuck_and_a_resume_has_a_full_round() -> None:
    saga_id = trip.start(refuse=["book_flight"], fail={"cancel_car": 3})
    saga = trip.saga(saga_id)
    assert (saga.status, saga.current_step) == ("stuck", "book_car")
    assert saga.failure_reason == "inventory.cancel_car: cancel_car is down"
    assert trip.booked(saga_id) == {"hotel", "car"}

    sagas.resume(saga_id)

    saga = trip.saga(saga_id)
    assert saga.status == "compensated"
    assert saga.failure_reason == "book_flight: no book_flight"
    assert trip.diary.count("cancel_car") == 4
    assert trip.booked(saga_id) == set()


def test_past_the_pivot_a_failing_step_is_stuck_and_never_undone() -> None:
    saga_id = trip.start(fail={"send_tickets": 2})
    assert trip.saga(saga_id).status == "stuck"
    with pytest.raises(Conflict, match="point of no return"):
        sagas.cancel(saga_id)

    sagas.resume(saga_id)

    assert trip.saga(saga_id).status == "completed"
    assert trip.booked(saga_id) == {"hotel", "car", "flight"}


def test_a_guard_is_asked_before_the_gateway() -> None:
    calls: list[str] = []

    def fly(_: object, key: str) -> None:
        calls.append(key)

    @sagas.command("shipping.fly", call=fly, void=fly)
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

    assert trip.saga(saga_id).error == "fly: guard: never"
    assert calls == [f"{saga_id}:fly", "undone"]  # only the voiding, which is always asked for


def test_a_declined_charge_that_is_delivered_again_only_calls_the_error_callback_again(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = NewOrder((Item("item-001", 1),), Pattern.ORCHESTRATION, simulate=(("payments", "decline"),))
    saga_id = place(request).saga_id
    for task_name in ("orders.create_order", "inventory.reserve_stock"):
        post.deliver(task_name)
    charge = post.take("payments.process_payment")
    run(charge)
    monkeypatch.setattr(fault_injection, "intercept", lambda *_: None)
    monkeypatch.setattr(SimulatedPaymentProvider, "capture", lambda *_: pytest.fail("asked again"))

    # not by get(), which Celery forbids wherever a worker has run in the process
    failure = charge.apply().result

    assert isinstance(failure, StepFailed)
    assert "declined" in str(failure)

    assert trip.saga(saga_id).status == "running"  # the error callback was held back by the test


def test_every_message_delivered_twice_in_a_row_changes_nothing(post: Post) -> None:
    saga_id = trip.start()
    while post.waiting:
        message = post.waiting.pop(0)
        run(message)
        run(message)

    assert trip.diary == ["book_hotel", "book_car", "book_flight", "send_tickets"]
    assert trip.saga(saga_id).status == "completed"


def test_every_compensation_delivered_twice_in_a_row_changes_nothing(post: Post) -> None:
    saga_id = trip.start(refuse=["book_flight"])
    post.deliver("orders.book_hotel")
    post.deliver("inventory.book_car")
    post.deliver("shipping.book_flight")
    celery.tasks[ERROR_CALLBACK](saga_id=saga_id)
    celery.tasks[ERROR_CALLBACK](saga_id=saga_id)
    assert post.names() == ["notifications.send_tickets", "inventory.cancel_car", "orders.cancel_hotel"]
    post.take("notifications.send_tickets")
    while post.waiting:
        message = post.waiting.pop(0)
        run(message)
        run(message)

    assert trip.diary == ["book_hotel", "book_car", "book_flight", "cancel_car", "cancel_hotel"]
    assert trip.saga(saga_id).status == "compensated"


def test_after_the_fence_is_closed_a_late_action_does_nothing(post: Post) -> None:
    saga_id = trip.start()
    post.deliver("orders.book_hotel")
    late = post.take("inventory.book_car")
    sagas.cancel(saga_id)
    run(late)
    assert trip.diary == ["book_hotel"]
    post.waiting[:] = [message for message in post.waiting if "cancel" in str(message.task)]
    post.deliver_all()
    run(late)

    assert trip.saga(saga_id).status == "compensated"
    assert trip.diary == ["book_hotel", "cancel_hotel"]
    assert trip.booked(saga_id) == set()


def chain_after(step: Command, saga_id: str, task_id: str) -> object:
    """Deliver a step's message that is part of a chain; returns what is left of the chain for Celery to send."""
    request = SimpleNamespace(id=task_id, retries=0, chain=["the rest"])
    delivery = Delivery(task_id, saga_id, runtime.current().now())
    execution = Execution(sagas.engine, CommandDeliveries(sagas.orchestrator, step))
    execution.run(SimpleNamespace(request=request), delivery)  # type: ignore[arg-type]
    return request.chain


def test_a_closed_fence_ends_its_chain(post: Post) -> None:
    saga_id = trip.start()
    assert chain_after(trip.book_hotel, saga_id, "task") == ["the rest"]

    sagas.cancel(saga_id)

    assert chain_after(trip.book_car, saga_id, "another task") is None


def test_celery_itself_ends_the_chain_of_a_closed_fence(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    saga_id = trip.start()
    sagas.cancel(saga_id)
    sent: list[str] = []
    monkeypatch.setattr(celery.tasks[TWO_STEPS[1]], "run", lambda saga_id: sent.append(saga_id))
    step, following = TWO_STEPS
    rest = celery.signature(following, kwargs={"saga_id": saga_id}, immutable=True)
    tracer = build_tracer(step, celery.tasks[step], app=celery)  # as any worker has it, also an embedded one

    tracer("task", [], {"saga_id": saga_id}, {"chain": [dict(rest)]})

    assert sent == []


def test_a_chain_goes_on_when_its_message_comes_again_before_the_next_step_is_done(post: Post) -> None:
    saga_id = trip.start()
    chain_after(trip.book_hotel, saga_id, "task")  # and its worker dies before it has sent the rest

    assert chain_after(trip.book_hotel, saga_id, "task") == ["the rest"]

    chain_after(trip.book_car, saga_id, "next task")
    assert chain_after(trip.book_hotel, saga_id, "task") is None


def test_a_second_chain_ends_where_the_first_was_faster(post: Post) -> None:
    saga_id = trip.start()
    chain_after(trip.book_hotel, saga_id, "task of the first chain")

    assert chain_after(trip.book_hotel, saga_id, "task of a chain that the sweep sent") is None

    chain_after(trip.book_car, saga_id, "next task of the first chain")
    sagas.cancel(saga_id)
    chain_after(trip.cancel_car, saga_id, "task of the first way back")
    assert chain_after(trip.cancel_car, saga_id, "task of a way back that the sweep sent") is None


def test_a_step_whose_turn_has_not_come_does_nothing(post: Post) -> None:
    saga_id = trip.start()

    post.deliver("shipping.book_flight")

    assert trip.diary == []
    assert trip.saga(saga_id).current_step == "book_hotel"


def test_compensations_keep_their_order_whatever_order_they_arrive_in(post: Post) -> None:
    saga_id = trip.start()
    post.deliver("orders.book_hotel")
    post.deliver("inventory.book_car")
    post.waiting.clear()
    sagas.cancel(saga_id)

    post.deliver("orders.cancel_hotel")

    assert "cancel_hotel" not in trip.diary


def test_an_error_callback_without_a_failure_in_the_log_undoes_nothing(post: Post) -> None:
    saga_id = trip.start()
    post.deliver("orders.book_hotel")

    celery.tasks[ERROR_CALLBACK](saga_id=saga_id)

    assert trip.saga(saga_id).status == "running"


def test_a_saga_that_was_never_published_is_published_by_the_sweep(post: Post, clock: Clock) -> None:
    saga_id = trip.start()
    post.waiting.clear()

    clock.forward(0.5)
    assert sagas.sweep().driven == 0
    clock.forward(0.6)
    with_short_deadline(saga_id, 60)
    assert sagas.sweep().driven == 1
    post.deliver_all()

    assert trip.saga(saga_id).status == "completed"


def test_what_is_overdue_is_undone_by_the_sweep(post: Post, clock: Clock) -> None:
    saga_id = trip.start()
    post.deliver("orders.book_hotel")
    post.waiting.clear()

    clock.forward(1.1)
    assert sagas.sweep().timed_out == 1
    post.deliver_all()

    assert trip.saga(saga_id).status == "compensated"
    assert trip.saga(saga_id).error == "book_car: no result before its deadline"
    assert trip.booked(saga_id) == set()


def test_each_step_has_its_own_deadline_or_the_installations(post: Post, clock: Clock) -> None:
    saga_id = trip.start()
    assert trip.saga(saga_id).deadline_at == clock() + timedelta(seconds=1)

    post.deliver("orders.book_hotel")
    post.deliver("inventory.book_car")

    assert trip.saga(saga_id).deadline_at == clock() + timedelta(seconds=5)


def test_past_the_pivot_what_is_overdue_is_driven_on(post: Post, clock: Clock) -> None:
    saga_id = trip.start()
    for task_name in ("orders.book_hotel", "inventory.book_car", "shipping.book_flight"):
        post.deliver(task_name)
    post.waiting.clear()

    clock.forward(1.1)
    assert sagas.sweep().timed_out == 1
    post.deliver_all()

    assert trip.saga(saga_id).status == "completed"


def test_a_failure_whose_error_callback_was_lost_is_undone_by_the_sweep(post: Post, clock: Clock) -> None:
    saga_id = trip.start(refuse=["book_car"])
    post.deliver("orders.book_hotel")
    post.deliver("inventory.book_car")  # its error callback is not called: the message was taken out of its chain
    post.waiting.clear()
    assert trip.saga(saga_id).status == "running"

    clock.forward(1.1)
    sagas.sweep()
    post.deliver_all()

    assert trip.saga(saga_id).status == "compensated"


def test_lost_compensations_are_sent_again_by_the_sweep(post: Post, clock: Clock) -> None:
    saga_id = trip.start()
    post.deliver("orders.book_hotel")
    sagas.cancel(saga_id)
    post.waiting.clear()

    clock.forward(1.1)
    assert sagas.sweep().driven == 1
    post.deliver_all()

    assert trip.saga(saga_id).status == "compensated"


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

    assert trip.saga(saga_id).wake_at is None


def test_a_step_that_nobody_knows_anything_of_makes_the_saga_stuck_in_time_and_loses_nothing(
    post: Post, clock: Clock
) -> None:
    saga_id = trip.start()
    with runtime.current().database.transaction() as session:
        session.get_one(SagaInstance, saga_id).steps = ["book_hotel", "book_tent"]

    post.deliver("orders.book_hotel")
    clock.forward(60)
    sagas.sweep()
    assert (trip.saga(saga_id).status, trip.diary) == ("pending", [])
    clock.forward(state_machine.ABANDONED_AFTER_SECONDS + 1)
    sagas.sweep()

    saga = trip.saga(saga_id)
    assert saga.status == "stuck"
    assert saga.failure_reason == "no running process declares all of saga trip"


def test_messages_that_mean_nothing_are_dropped(post: Post) -> None:
    saga_id = trip.start()
    unknown = celery.signature("orders.book_hotel", kwargs={"saga_id": "01890000-0000-7000-8000-000000000000"})
    foreign = celery.signature("orders.create_order", kwargs={"saga_id": saga_id})

    for message in (unknown, foreign):
        assert str(cast(Reply, message.apply().result).error).startswith("no such saga")
    assert trip.saga(saga_id).status == "pending"


def with_short_deadline(saga_id: str, seconds: float) -> None:
    """Give a saga more time for its step than the tests' settings do."""
    with runtime.current().database.transaction() as session:
        session.get_one(SagaInstance, saga_id).deadline_at = runtime.current().now() + timedelta(seconds=seconds)


def test_what_an_operation_did_not_answer_is_null_for_sql_too(here: Runtime) -> None:
    saga_id = trip.start()

    with here.database.reading() as session:
        silent = text("SELECT step FROM saga_steps WHERE saga_id = :saga AND result IS NULL")
        assert session.scalars(silent, {"saga": saga_id}).all() == ["send_tickets"]


def test_how_long_a_step_took_includes_its_work(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[signals.SagaSignal] = []
    monkeypatch.setattr(sagas.signals, "_listeners", [told.append])
    monkeypatch.setattr(trip, "_do", lambda *_: clock.forward(2))

    trip.start()

    took = [round(one.seconds or 0) for one in told if one.kind is signals.SignalType.STEP_COMPLETED]
    assert took == [2, 2, 2, 2]
