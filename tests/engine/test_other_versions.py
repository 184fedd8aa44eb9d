"""Processes of two versions at the same time, as during a rolling deploy: the newer one's saga has two steps more."""

import logging
from collections.abc import Callable, Collection
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import consumer, runtime
from app.celery import app as celery
from app.errors import Conflict
from app.sagas import sagas
from durable_sagas import state_machine
from durable_sagas.definition import Saga, Step
from durable_sagas.execution import MAX_HANDOVERS
from durable_sagas.history import history
from durable_sagas.ids import new_id
from durable_sagas.manual_completion import ManualCompletion
from durable_sagas.messages import Event, EventType
from durable_sagas.models import OperatorAction, SagaInstance
from durable_sagas.orchestrator import OrchestratedSaga
from tests.engine import trip
from tests.engine.trip import Trip
from tests.engine.wire import Wire
from tests.simulation.messages import run
from tests.testkit.messages import ERROR_CALLBACK, Clock
from workflows.orders import Item, NewOrder, Pattern, place

pytestmark = pytest.mark.usefixtures("agency")


@sagas.command("inventory.pack_bags")
def pack_bags(session: Session, _: Trip) -> None:
    trip.diary.append("pack_bags")


@sagas.command("inventory.unpack_bags")
def unpack_bags(session: Session, _: Trip) -> None:
    trip.diary.append("unpack_bags")


@sagas.command("shipping.insure", call=lambda *_: trip.diary.append("insure"))
def insure(session: Session, trip: Trip, _: None) -> None: ...


@sagas.command("shipping.cancel_insurance", call=lambda *_: trip.diary.append("cancel_insurance"))
def cancel_insurance(session: Session, trip: Trip, _: None) -> None: ...


@sagas.command("notifications.wish_well")
def wish_well(session: Session, _: Trip) -> None:
    trip.diary.append("wish_well")


HOTEL, CAR, FLIGHT, TICKETS = trip.TRIP.steps
OLDER = trip.TRIP
NEWER = OrchestratedSaga(
    sagas.orchestrator, Saga("trip", HOTEL, Step(pack_bags, unpack_bags), CAR, FLIGHT, Step(wish_well), TICKETS)
)
INSURED = OrchestratedSaga(
    sagas.orchestrator, Saga("trip", HOTEL, Step(insure, cancel_insurance), CAR, FLIGHT, TICKETS)
)
ADDED = {"inventory.pack_bags", "inventory.unpack_bags", "notifications.wish_well"}
ADDED |= {"shipping.insure", "shipping.cancel_insurance"}

Deploy = Callable[[OrchestratedSaga | None], None]


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch) -> Deploy:
    """Make this process one of another version, or of one that does not declare trips at all."""

    def deploy(version: OrchestratedSaga | None) -> None:
        drivers = {name: driver for name, driver in sagas.engine.drivers.items() if name != "trip"}
        monkeypatch.setattr(sagas.engine, "drivers", drivers | ({"trip": version} if version else {}))

    return deploy


def start(version: OrchestratedSaga, **payload: Any) -> str:
    """Start a trip as a process of a version does; returns the saga's id."""
    trip_id = new_id()
    with runtime.current().database.transaction() as session:
        return version.start(session, trip_id, {"trip": trip_id, **payload}).id


def work_off(wire: Wire, *, leave: Collection[str] = ()) -> None:
    """Deliver what waits, and what that causes, but the messages of some tasks."""
    while taken := [message for message in wire.waiting if message.task not in leave]:
        wire.waiting.remove(taken[0])
        run(taken[0])


def sweep(clock: Clock, seconds: float) -> None:
    clock.forward(seconds)
    sagas.sweep()


def test_older_workers_do_the_steps_they_know_and_newer_ones_the_rest(wire: Wire, deploy: Deploy) -> None:
    deploy(NEWER)
    saga_id = start(NEWER)

    deploy(OLDER)
    work_off(wire, leave=ADDED)
    assert (trip.saga(saga_id).status, trip.saga(saga_id).current_step) == ("running", "pack_bags")
    assert wire.names() == ["inventory.pack_bags"]
    deploy(NEWER)
    wire.deliver("inventory.pack_bags")
    deploy(OLDER)
    work_off(wire, leave=ADDED)
    deploy(NEWER)
    work_off(wire)

    assert trip.saga(saga_id).status == "completed"
    assert trip.diary == ["book_hotel", "pack_bags", "book_car", "book_flight", "wish_well", "send_tickets"]


def test_an_older_sweep_sends_the_steps_it_does_not_know(wire: Wire, deploy: Deploy, clock: Clock) -> None:
    deploy(NEWER)
    saga_id = start(NEWER)
    deploy(OLDER)
    work_off(wire, leave=ADDED)
    wire.waiting.clear()
    allow(saga_id, 60)

    sweep(clock, 1.1)

    assert trip.saga(saga_id).status == "running"
    assert wire.names() == ["inventory.pack_bags"]
    deploy(NEWER)
    work_off(wire)
    assert trip.saga(saga_id).status == "completed"


def allow(saga_id: str, seconds: float) -> None:
    """Give a saga more time for its step than the tests' settings do."""
    with runtime.current().database.transaction() as session:
        session.get_one(SagaInstance, saga_id).deadline_at = runtime.current().now() + timedelta(seconds=seconds)


def test_rolled_back_before_the_step_ran_it_is_undone_at_its_deadline(wire: Wire, deploy: Deploy, clock: Clock) -> None:
    deploy(NEWER)
    saga_id = start(NEWER)
    deploy(OLDER)
    work_off(wire, leave=ADDED)

    sweep(clock, 1.1)
    work_off(wire, leave=ADDED)

    saga = trip.saga(saga_id)
    assert (saga.status, saga.error) == ("compensated", "pack_bags: no result before its deadline")
    assert trip.diary == ["book_hotel", "cancel_hotel"]
    deploy(NEWER)  # a late message to a worker that was forgotten
    work_off(wire)
    assert trip.diary == ["book_hotel", "cancel_hotel"]


def test_rolled_back_after_the_step_ran_only_its_undoing_waits(wire: Wire, deploy: Deploy, clock: Clock) -> None:
    deploy(NEWER)
    saga_id = start(NEWER, refuse=["book_flight"])
    for task_name in ("orders.book_hotel", "inventory.pack_bags"):
        wire.deliver(task_name)
    deploy(OLDER)
    work_off(wire, leave=ADDED)
    assert (trip.saga(saga_id).status, trip.saga(saga_id).current_step) == ("compensating", "pack_bags")

    for seconds in (1.1, 60, 230):
        sweep(clock, seconds)
        assert trip.saga(saga_id).status == "compensating"
    sweep(clock, 60)

    saga = trip.saga(saga_id)
    assert (saga.status, saga.failure_reason) == ("stuck", "pack_bags: no running process declares this step")
    with pytest.raises(Conflict, match="does not declare"):
        sagas.skip(saga_id, ManualCompletion("Ann"))
    sagas.resume(saga_id)
    wire.waiting.clear()
    sweep(clock, 1.1)
    deploy(NEWER)
    work_off(wire)
    assert trip.saga(saga_id).status == "compensated"
    assert trip.diary[-2:] == ["unpack_bags", "cancel_hotel"]


def test_what_a_step_may_have_done_outside_waits_for_its_own_version(wire: Wire, deploy: Deploy, clock: Clock) -> None:
    deploy(INSURED)
    saga_id = start(INSURED)
    wire.deliver("orders.book_hotel")
    wire.take("shipping.insure")  # its worker dies in the call: the log knows nothing of it
    deploy(OLDER)

    sweep(clock, 1.1)
    work_off(wire, leave=ADDED)

    assert (trip.saga(saga_id).status, trip.saga(saga_id).current_step) == ("compensating", "insure")
    deploy(INSURED)
    work_off(wire)
    assert trip.diary == ["book_hotel", "cancel_insurance", "cancel_hotel"]
    assert trip.saga(saga_id).status == "compensated"


def test_past_the_pivot_an_unknown_step_has_time_before_it_is_stuck(wire: Wire, deploy: Deploy, clock: Clock) -> None:
    deploy(NEWER)
    saga_id = start(NEWER)
    for task_name in ("orders.book_hotel", "inventory.pack_bags"):
        wire.deliver(task_name)
    deploy(OLDER)
    work_off(wire, leave=ADDED)
    assert trip.saga(saga_id).current_step == "wish_well"

    for seconds in (1.1, 60, 230):
        sweep(clock, seconds)
        assert trip.saga(saga_id).status == "running"
    with pytest.raises(Conflict, match="point of no return"):
        sagas.cancel(saga_id)
    sweep(clock, 60)

    assert trip.saga(saga_id).status == "stuck"
    sagas.resume(saga_id)
    deploy(NEWER)
    work_off(wire)
    assert trip.saga(saga_id).status == "completed"


@pytest.mark.parametrize("ran", [False, True])
def test_an_older_process_cancels_what_a_newer_one_started(wire: Wire, deploy: Deploy, ran: bool) -> None:
    deploy(NEWER)
    saga_id = start(NEWER)
    wire.deliver("orders.book_hotel")
    if ran:
        wire.deliver("inventory.pack_bags")
    deploy(OLDER)

    sagas.cancel(saga_id)
    work_off(wire, leave=ADDED)

    assert trip.saga(saga_id).status == ("compensating" if ran else "compensated")
    deploy(NEWER)
    work_off(wire)
    assert trip.saga(saga_id).status == "compensated"
    assert trip.booked(saga_id) == set()
    assert ("unpack_bags" in trip.diary) == ran


def test_an_older_error_callback_undoes_what_failed(wire: Wire, deploy: Deploy) -> None:
    deploy(NEWER)
    saga_id = start(NEWER, refuse=["book_car"])
    for task_name in ("orders.book_hotel", "inventory.pack_bags", "inventory.book_car"):
        wire.deliver(task_name)
    deploy(OLDER)

    wire.deliver(ERROR_CALLBACK)

    assert trip.saga(saga_id).status == "compensating"
    deploy(NEWER)
    work_off(wire)
    assert trip.saga(saga_id).status == "compensated"
    assert trip.diary[-2:] == ["unpack_bags", "cancel_hotel"]


def test_a_saga_of_an_unknown_type_is_left_to_those_who_know_it(wire: Wire, deploy: Deploy, clock: Clock) -> None:
    saga_id = trip.start()
    allow(saga_id, 60)
    deploy(None)

    sweep(clock, 1.1)
    wire.deliver("orders.book_hotel")

    saga = trip.saga(saga_id)
    assert (saga.status, saga.stuck_reason, trip.diary) == ("pending", None, [])
    assert wire.names() == ["orders.book_hotel"]  # put off, with what follows it
    assert saga.wake_at == clock() + timedelta(seconds=state_machine.RECHECK_SECONDS)
    deploy(OLDER)
    work_off(wire)
    assert trip.saga(saga_id).status == "completed"


def test_a_failure_of_an_unknown_type_is_left_to_those_who_know_it(wire: Wire, deploy: Deploy) -> None:
    saga_id = trip.start(refuse=["book_car"])
    for task_name in ("orders.book_hotel", "inventory.book_car"):
        wire.deliver(task_name)
    deploy(None)

    wire.deliver(ERROR_CALLBACK)

    assert trip.saga(saga_id).status == "running"
    assert wire.names() == [ERROR_CALLBACK]
    deploy(OLDER)
    work_off(wire)
    assert trip.saga(saga_id).status == "compensated"


def test_a_saga_of_an_unknown_type_is_stuck_when_nobody_has_moved_it_for_long(
    wire: Wire, deploy: Deploy, clock: Clock
) -> None:
    saga_id = trip.start()
    deploy(None)

    for _ in range(4):
        sweep(clock, 100)
        assert trip.saga(saga_id).status == "pending"
    sweep(clock, 3)

    assert trip.saga(saga_id).failure_reason == "no running process declares all of saga trip"
    wire.waiting.clear()
    sagas.resume(saga_id)
    deploy(OLDER)
    sweep(clock, 0)
    work_off(wire)
    assert trip.saga(saga_id).status == "completed"


@pytest.mark.parametrize("version", [OLDER, None])
def test_what_has_waited_long_for_another_reason_has_its_full_time_too(
    wire: Wire, deploy: Deploy, clock: Clock, version: OrchestratedSaga | None
) -> None:
    deploy(NEWER)
    saga_id = start(NEWER, refuse=["book_flight"])
    for task_name in ("orders.book_hotel", "inventory.pack_bags"):
        wire.deliver(task_name)
    work_off(wire, leave={"inventory.unpack_bags"})
    for _ in range(6):  # as while a gateway is away
        sweep(clock, 100)
        wire.waiting.clear()
    deploy(version)

    for seconds in (100, 200, 99):
        sweep(clock, seconds)
        assert trip.saga(saga_id).status == "compensating"
    deploy(NEWER)  # one that can do it counts, too
    sweep(clock, 100)
    deploy(version)
    sweep(clock, 200)
    assert trip.saga(saga_id).status == "compensating"
    sweep(clock, 301)

    assert trip.saga(saga_id).status == "stuck"


@pytest.mark.parametrize("stuck", [False, True])
def test_what_is_asked_of_a_process_of_the_other_version_is_done_by_one_that_can(
    wire: Wire, deploy: Deploy, clock: Clock, stuck: bool
) -> None:
    saga_id = trip.start()
    wire.deliver("orders.book_hotel")
    deploy(None)
    if stuck:
        make_stuck(saga_id)

    for _ in range(2):
        sagas.cancel(saga_id, by="Ann")

    assert trip.saga(saga_id).status == ("stuck" if stuck else "running")
    assert trip.saga(saga_id).cancel_requested_at == clock()
    assert acts(saga_id) == ["cancel"]
    deploy(OLDER)
    if stuck:
        sagas.resume(saga_id)
    sweep(clock, 0)
    work_off(wire)
    assert trip.saga(saga_id).status == "compensated"
    assert trip.saga(saga_id).error == "cancelled on request"


def make_stuck(saga_id: str) -> None:
    with runtime.current().database.transaction() as session:
        sagas.engine.state_machine.mark_stuck(
            session.get_one(SagaInstance, saga_id), runtime.current().now(), "no process declares it"
        )


def acts(saga_id: str) -> list[str]:
    with runtime.current().database.reading() as session:
        return list(session.scalars(select(OperatorAction.act).where(OperatorAction.saga_id == saga_id)))


def test_a_customer_does_not_resume_what_is_stuck_past_the_point_of_no_return(
    wire: Wire, deploy: Deploy, clock: Clock
) -> None:
    saga_id = trip.start()
    for task_name in ("orders.book_hotel", "inventory.book_car", "shipping.book_flight"):
        wire.deliver(task_name)
    assert trip.saga(saga_id).current_step == "send_tickets"
    deploy(None)
    make_stuck(saga_id)

    sagas.cancel(saga_id)
    sweep(clock, 60)

    assert trip.saga(saga_id).status == "stuck"
    deploy(OLDER)
    sagas.resume(saga_id)
    sweep(clock, 0)
    work_off(wire)
    assert trip.saga(saga_id).status == "completed"


@pytest.mark.parametrize("failed", [False, True])
def test_a_message_that_only_another_version_understands_does_not_come_for_ever(
    wire: Wire, deploy: Deploy, caplog: pytest.LogCaptureFixture, failed: bool
) -> None:
    trip.start(refuse=["book_hotel"] if failed else [])
    if failed:
        wire.deliver("orders.book_hotel")
        assert wire.names() == [ERROR_CALLBACK]
    deploy(None)

    with caplog.at_level(logging.INFO):
        work_off(wire)

    assert caplog.text.count("message left to a process of another version") == MAX_HANDOVERS
    assert caplog.text.count("no process of another version has taken it") == 1


def test_a_reaction_leaves_an_event_that_it_does_not_know_to_others(wire: Wire) -> None:
    placed = place(NewOrder((Item("item-001", 1),), Pattern.CHOREOGRAPHY))
    with runtime.current().database.transaction() as session:
        saga = session.get_one(SagaInstance, placed.saga_id)
        event = sagas.events.emit(session, saga.aggregate_id, Event(EventType("WrappingFailed")), saga_id=saga.id)
        foreign = {"saga_id": placed.saga_id, "event_id": event.id}
    wire.waiting.clear()

    celery.send_task("inventory.release_on_failure", kwargs=foreign)
    wire.deliver("inventory.release_on_failure")

    assert wire.names() == ["inventory.release_on_failure"]


def test_every_other_re_drive_sends_all_events_to_the_reactions_that_have_not_ended(wire: Wire, clock: Clock) -> None:
    placed = place(NewOrder((Item("item-001", 1),), Pattern.CHOREOGRAPHY))
    allow(placed.saga_id, 60)
    wire.deliver("inventory.reserve_on_order_created")
    wire.waiting.clear()  # the version that published StockReserved has no subscriber of it
    created, reserved = events(placed.order_id)

    sweep(clock, 1.1)
    assert {message.arguments["event_id"] for message in wire.waiting} == {created}
    wire.waiting.clear()
    sweep(clock, 2.1)

    sent = {(message.task, message.arguments["event_id"]) for message in wire.waiting}
    assert ("inventory.reserve_on_order_created", created) not in sent
    assert ("shipping.ship_when_reserved_and_paid", reserved) in sent


def events(order_id: str) -> list[str]:
    with runtime.current().database.reading() as session:
        return [event.id for event in history(session, order_id).events]


@pytest.mark.parametrize(
    ("task", "sent_at", "elsewhere"),
    [
        ("inventory.gift_wrap", 1.0, True),
        ("inventory.gift_wrap", 9e9, True),
        ("inventory.gift_wrap", None, False),
        ("warehouse.gift_wrap", 1.0, False),
        ("celery.chain", 1.0, False),
    ],
)
def test_a_task_that_may_be_another_versions_is_told_from_garbage_whenever_it_was_sent(
    task: str, sent_at: float | None, elsewhere: bool
) -> None:
    headers = {"task": task, "id": new_id(), "sent_at": sent_at}
    message: Any = SimpleNamespace(headers=headers, payload=([], {"saga_id": new_id()}, None), body="")

    with pytest.raises(consumer.UnknownTask) as refused:
        consumer.check(message, celery)

    assert refused.value.may_be_elsewhere is elsewhere


def test_a_message_is_put_back_for_a_while_after_it_was_first_seen_here(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    limit = consumer.PutBackLimit(lambda: now[0])
    assert limit.delay("early") == 1

    now[0] += 8
    assert limit.delay("early") == 4, "a backlog of them leaves time for others"
    now[0] += consumer.MAX_PUT_BACK_SECONDS - 9
    assert limit.delay("early") == consumer.MAX_PUT_BACK_DELAY_SECONDS
    assert limit.delay("late") == 1
    now[0] += 1
    assert limit.delay("early") is None
    assert limit.delay("late") == 1


def test_more_messages_than_are_kept_track_of_are_put_back_late(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    limit = consumer.PutBackLimit(lambda: now[0])
    monkeypatch.setattr(consumer, "MAX_PUT_BACK", 2)
    assert [limit.delay(message_id) for message_id in ("one", "two")] == [1, 1]

    assert limit.delay("too many") == consumer.MAX_PUT_BACK_DELAY_SECONDS
    now[0] += 2 * consumer.MAX_PUT_BACK_SECONDS + 1
    assert limit.delay("of another deploy") == 1
