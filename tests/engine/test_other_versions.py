"""Processes of two versions at the same time, as during a rolling deploy: the newer one's saga has two steps more."""

import logging
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app import runtime
from app.celery import app as celery
from app.errors import Conflict
from app.sagas import sagas
from app.worker import consumer
from durable_sagas import other_versions
from durable_sagas.definition import Saga, Step
from durable_sagas.execution import MAX_HANDOVERS
from durable_sagas.ids import new_id
from durable_sagas.manual_completion import ManualCompletion
from durable_sagas.messages import Event, EventType
from durable_sagas.models import SagaInstance
from durable_sagas.orchestrator import OrchestratedSaga
from tests.engine import trip
from tests.engine.trip import Trip
from tests.engine.wire import Wire
from tests.simulation.messages import run
from tests.testkit import stored
from tests.testkit.messages import ERROR_CALLBACK, Clock
from tests.testkit.orders import order
from workflows.orders import Pattern

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
HOTEL_TASK, CAR_TASK, FLIGHT_TASK = "orders.book_hotel", "inventory.book_car", "shipping.book_flight"
PACK = "inventory.pack_bags"


class Fleet:
    """All processes, of one version at a time."""

    def __init__(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        self._wire, self._patch = wire, monkeypatch

    def deploy(self, version: OrchestratedSaga | None) -> None:
        """Deploy a version, or one that does not declare trips at all."""
        drivers = {name: driver for name, driver in sagas.engine.drivers.items() if name != "trip"}
        self._patch.setattr(sagas.engine, "drivers", drivers | ({"trip": version} if version else {}))

    def start(self, version: OrchestratedSaga, *done: str, **payload: Any) -> str:
        """Deploy a version, start a trip and execute these steps of it; returns the saga's id."""
        self.deploy(version)
        trip_id = new_id()
        with runtime.current().database.transaction() as session:
            saga_id = version.start(session, trip_id, {"trip": trip_id, **payload}).id
        self._wire.deliver(*done)
        return saga_id

    def work(self, version: OrchestratedSaga | None) -> None:
        """Deploy a version, and deliver what waits for the tasks that it declares, and what that causes."""
        self.deploy(version)
        leave = ADDED if version is OLDER else set()
        while taken := [message for message in self._wire.waiting if message.task not in leave]:
            self._wire.waiting.remove(taken[0])
            run(taken[0])

    def ending(self, version: OrchestratedSaga, saga_id: str) -> str:
        """Have a version work; returns the status that this leads a saga to."""
        self.work(version)
        return stored.saga(saga_id).status


@pytest.fixture
def fleet(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    return Fleet(wire, monkeypatch)


def sweep(clock: Clock, seconds: float) -> None:
    clock.forward(seconds)
    sagas.sweep()


def at(saga_id: str) -> tuple[str, str | None]:
    saga = stored.saga(saga_id)
    return saga.status, saga.current_step


def test_older_workers_do_the_steps_they_know_and_newer_ones_the_rest(wire: Wire, fleet: Fleet) -> None:
    saga_id = fleet.start(NEWER)

    fleet.work(OLDER)
    assert at(saga_id) == ("running", "pack_bags")
    assert wire.names() == [PACK]
    fleet.deploy(NEWER)
    wire.deliver(PACK)
    fleet.work(OLDER)
    fleet.work(NEWER)

    assert stored.saga(saga_id).status == "completed"
    assert trip.diary == ["book_hotel", "pack_bags", "book_car", "book_flight", "wish_well", "send_tickets"]


def test_an_older_sweep_sends_the_steps_it_does_not_know(wire: Wire, fleet: Fleet, clock: Clock) -> None:
    saga_id = fleet.start(NEWER)
    fleet.work(OLDER)
    wire.waiting.clear()
    trip.allow(saga_id, 60)

    sweep(clock, 1.1)

    assert stored.saga(saga_id).status == "running"
    assert wire.names() == [PACK]
    assert fleet.ending(NEWER, saga_id) == "completed"


def test_rolled_back_before_the_step_ran_it_is_compensated_at_its_deadline(fleet: Fleet, clock: Clock) -> None:
    saga_id = fleet.start(NEWER)
    fleet.work(OLDER)

    sweep(clock, 1.1)
    fleet.work(OLDER)

    saga = stored.saga(saga_id)
    assert (saga.status, saga.error) == ("compensated", "pack_bags: no result before its deadline")
    assert trip.diary == ["book_hotel", "cancel_hotel"]
    fleet.work(NEWER)  # a late message to a worker that was forgotten
    assert trip.diary == ["book_hotel", "cancel_hotel"]


def test_rolled_back_after_the_step_ran_only_its_compensation_waits(wire: Wire, fleet: Fleet, clock: Clock) -> None:
    saga_id = fleet.start(NEWER, HOTEL_TASK, PACK, refuse=["book_flight"])
    fleet.work(OLDER)
    assert at(saga_id) == ("compensating", "pack_bags")

    for seconds in (1.1, 60, 230):
        sweep(clock, seconds)
        assert stored.saga(saga_id).status == "compensating"
    sweep(clock, 60)

    saga = stored.saga(saga_id)
    assert (saga.status, saga.failure_reason) == ("stuck", "pack_bags: no running process declares this step")
    with pytest.raises(Conflict, match="does not declare"):
        sagas.skip(saga_id, ManualCompletion("Ann"))
    sagas.resume(saga_id)
    wire.waiting.clear()
    sweep(clock, 1.1)
    assert fleet.ending(NEWER, saga_id) == "compensated"
    assert trip.diary[-2:] == ["unpack_bags", "cancel_hotel"]


def test_what_a_step_may_have_done_outside_waits_for_its_own_version(wire: Wire, fleet: Fleet, clock: Clock) -> None:
    saga_id = fleet.start(INSURED, HOTEL_TASK)
    wire.take("shipping.insure")  # its worker dies in the call: the log knows nothing of it
    fleet.deploy(OLDER)

    sweep(clock, 1.1)
    fleet.work(OLDER)

    assert at(saga_id) == ("compensating", "insure")
    fleet.work(INSURED)
    assert trip.diary == ["book_hotel", "cancel_insurance", "cancel_hotel"]
    assert stored.saga(saga_id).status == "compensated"


def test_past_the_pivot_an_unknown_step_has_time_before_it_is_stuck(fleet: Fleet, clock: Clock) -> None:
    saga_id = fleet.start(NEWER, HOTEL_TASK, PACK)
    fleet.work(OLDER)
    assert stored.saga(saga_id).current_step == "wish_well"

    for seconds in (1.1, 60, 230):
        sweep(clock, seconds)
        assert stored.saga(saga_id).status == "running"
    with pytest.raises(Conflict, match="point of no return"):
        sagas.cancel(saga_id)
    sweep(clock, 60)

    assert stored.saga(saga_id).status == "stuck"
    sagas.resume(saga_id)
    assert fleet.ending(NEWER, saga_id) == "completed"


@pytest.mark.parametrize("ran", [False, True])
def test_an_older_process_cancels_what_a_newer_one_started(fleet: Fleet, ran: bool) -> None:
    saga_id = fleet.start(NEWER, HOTEL_TASK, *([PACK] if ran else []))
    fleet.deploy(OLDER)

    sagas.cancel(saga_id)
    fleet.work(OLDER)

    assert stored.saga(saga_id).status == ("compensating" if ran else "compensated")
    assert fleet.ending(NEWER, saga_id) == "compensated"
    assert trip.booked(saga_id) == set()
    assert ("unpack_bags" in trip.diary) == ran


def test_an_older_error_callback_compensates_what_failed(wire: Wire, fleet: Fleet) -> None:
    saga_id = fleet.start(NEWER, HOTEL_TASK, PACK, CAR_TASK, refuse=["book_car"])
    fleet.deploy(OLDER)

    wire.deliver(ERROR_CALLBACK)

    assert stored.saga(saga_id).status == "compensating"
    assert fleet.ending(NEWER, saga_id) == "compensated"
    assert trip.diary[-2:] == ["unpack_bags", "cancel_hotel"]


def test_a_saga_of_an_unknown_type_is_left_to_those_who_know_it(wire: Wire, fleet: Fleet, clock: Clock) -> None:
    saga_id = trip.start()
    trip.allow(saga_id, 60)
    fleet.deploy(None)

    sweep(clock, 1.1)
    wire.deliver(HOTEL_TASK)

    saga = stored.saga(saga_id)
    assert (saga.status, saga.stuck_reason, trip.diary) == ("pending", None, [])
    assert wire.names() == [HOTEL_TASK]  # put off, with what follows it
    assert saga.wake_at == clock() + timedelta(seconds=other_versions.RECHECK_SECONDS)
    assert fleet.ending(OLDER, saga_id) == "completed"


def test_a_failure_of_an_unknown_type_is_left_to_those_who_know_it(wire: Wire, fleet: Fleet) -> None:
    saga_id = fleet.start(OLDER, HOTEL_TASK, CAR_TASK, refuse=["book_car"])
    fleet.deploy(None)

    wire.deliver(ERROR_CALLBACK)

    assert stored.saga(saga_id).status == "running"
    assert wire.names() == [ERROR_CALLBACK]
    assert fleet.ending(OLDER, saga_id) == "compensated"


def test_a_saga_of_an_unknown_type_is_stuck_when_nobody_has_moved_it_for_long(
    wire: Wire, fleet: Fleet, clock: Clock
) -> None:
    saga_id = trip.start()
    fleet.deploy(None)

    for _ in range(4):
        sweep(clock, 100)
        assert stored.saga(saga_id).status == "pending"
    sweep(clock, 3)

    assert stored.saga(saga_id).failure_reason == "no running process declares all of saga trip"
    wire.waiting.clear()
    sagas.resume(saga_id)
    fleet.deploy(OLDER)
    sweep(clock, 0)
    assert fleet.ending(OLDER, saga_id) == "completed"


@pytest.mark.parametrize("version", [OLDER, None])
def test_what_has_waited_long_for_another_reason_has_its_full_time_too(
    wire: Wire, fleet: Fleet, clock: Clock, version: OrchestratedSaga | None
) -> None:
    saga_id = fleet.start(
        NEWER, HOTEL_TASK, PACK, CAR_TASK, FLIGHT_TASK, ERROR_CALLBACK, "inventory.cancel_car", refuse=["book_flight"]
    )
    assert at(saga_id) == ("compensating", "pack_bags")
    for _ in range(6):  # as while a gateway is away
        sweep(clock, 100)
        wire.waiting.clear()
    fleet.deploy(version)

    for seconds in (100, 200, 99):
        sweep(clock, seconds)
        assert stored.saga(saga_id).status == "compensating"
    fleet.deploy(NEWER)  # one that can do it counts, too
    sweep(clock, 100)
    fleet.deploy(version)
    sweep(clock, 200)
    assert stored.saga(saga_id).status == "compensating"
    sweep(clock, 301)

    assert stored.saga(saga_id).status == "stuck"


@pytest.mark.parametrize("stuck", [False, True])
def test_what_is_asked_of_a_process_of_the_other_version_is_done_by_one_that_can(
    fleet: Fleet, clock: Clock, stuck: bool
) -> None:
    saga_id = fleet.start(OLDER, HOTEL_TASK)
    fleet.deploy(None)
    if stuck:
        mark_stuck(saga_id)

    for _ in range(2):
        sagas.cancel(saga_id, by="Ann")

    assert stored.saga(saga_id).status == ("stuck" if stuck else "running")
    assert stored.saga(saga_id).cancel_requested_at == clock()
    assert stored.column("SELECT act FROM operator_acts WHERE saga_id = :id", id=saga_id) == ["cancel"]
    fleet.deploy(OLDER)
    if stuck:
        sagas.resume(saga_id)
    sweep(clock, 0)
    assert fleet.ending(OLDER, saga_id) == "compensated"
    assert stored.saga(saga_id).error == "cancelled on request"


def mark_stuck(saga_id: str) -> None:
    with runtime.current().database.transaction() as session:
        saga = session.get_one(SagaInstance, saga_id)
        sagas.engine.state_machine.mark_stuck(saga, runtime.current().now(), "no process declares it")


def test_a_customer_does_not_resume_what_is_stuck_past_the_point_of_no_return(fleet: Fleet, clock: Clock) -> None:
    saga_id = fleet.start(OLDER, HOTEL_TASK, CAR_TASK, FLIGHT_TASK)
    assert stored.saga(saga_id).current_step == "send_tickets"
    fleet.deploy(None)
    mark_stuck(saga_id)

    sagas.cancel(saga_id)
    sweep(clock, 60)

    assert stored.saga(saga_id).status == "stuck"
    fleet.deploy(OLDER)
    sagas.resume(saga_id)
    sweep(clock, 0)
    assert fleet.ending(OLDER, saga_id) == "completed"


@pytest.mark.parametrize("failed", [False, True])
def test_a_message_that_only_another_version_understands_does_not_come_for_ever(
    wire: Wire, fleet: Fleet, caplog: pytest.LogCaptureFixture, failed: bool
) -> None:
    fleet.start(OLDER, *([HOTEL_TASK] if failed else []), refuse=["book_hotel"])
    assert (wire.names() == [ERROR_CALLBACK]) == failed

    with caplog.at_level(logging.INFO):
        fleet.work(None)

    assert caplog.text.count("message left to a process of another version") == MAX_HANDOVERS
    assert caplog.text.count("no process of another version has taken it") == 1


def test_a_reaction_leaves_an_event_that_it_does_not_know_to_others(wire: Wire) -> None:
    placed = order(Pattern.CHOREOGRAPHY)
    with runtime.current().database.transaction() as session:
        saga = session.get_one(SagaInstance, placed.saga_id)
        event = sagas.events.emit(session, saga.aggregate_id, Event(EventType("WrappingFailed")), saga_id=saga.id)
        foreign = {"saga_id": placed.saga_id, "event_id": event.id}
    wire.waiting.clear()

    celery.send_task("inventory.release_on_failure", kwargs=foreign)
    wire.deliver("inventory.release_on_failure")

    assert wire.names() == ["inventory.release_on_failure"]


def test_every_other_re_drive_sends_all_events_to_the_reactions_that_have_not_ended(wire: Wire, clock: Clock) -> None:
    placed = order(Pattern.CHOREOGRAPHY)
    trip.allow(placed.saga_id, 60)
    wire.deliver("inventory.reserve_on_order_created")
    wire.waiting.clear()  # the version that published StockReserved has no subscriber of it
    query = "SELECT id FROM events WHERE aggregate_id = :id ORDER BY sequence"
    created, reserved = stored.column(query, id=placed.order_id)

    sweep(clock, 1.1)
    assert {message.arguments["event_id"] for message in wire.waiting} == {created}
    wire.waiting.clear()
    sweep(clock, 2.1)

    sent = {(message.task, message.arguments["event_id"]) for message in wire.waiting}
    assert ("inventory.reserve_on_order_created", created) not in sent
    assert ("shipping.ship_when_reserved_and_paid", reserved) in sent


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


def test_a_message_is_put_back_for_a_while_after_it_was_first_seen_here() -> None:
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
