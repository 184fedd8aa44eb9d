"""Several steps' messages in one transaction: each ends as alone, and a fault of one is its own."""

from sqlite3 import OperationalError
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app import runtime
from app.errors import StepFailed, StepRejected
from app.sagas import sagas
from durable_sagas import OrchestratedSaga
from durable_sagas.definition import Step
from durable_sagas.ids import new_id
from durable_sagas.messages import Event, EventType
from tests.engine import trip
from tests.engine.trip import Booking, Trip, diary
from tests.engine.wire import Wire, one_commit, run_together, sagas_of
from tests.simulation.messages import Message, batched, run
from tests.testkit import stored
from tests.testkit.messages import ERROR_CALLBACK
from tests.testkit.orders import order
from tests.testkit.stored import events, logged, statuses
from workflows.orders import Pattern

pytestmark = pytest.mark.usefixtures("agency")

HOTEL, CAR, FLIGHT, TICKETS = (
    "orders.book_hotel",
    "inventory.book_car",
    "shipping.book_flight",
    "notifications.send_tickets",
)
CANCEL_CAR, CANCEL_HOTEL = "inventory.cancel_car", "orders.cancel_hotel"
BOARD = "shipping.board_ship"
COMPLETE, NOTIFY = "orders.complete_order", "notifications.notify_customer"


def no_room(session: Session, trip: Trip, reason: str) -> Event:
    return Event(EventType("NoRoom"), {"reason": reason})


@sagas.command(BOARD, on_rejected=no_room)
def board_ship(session: Session, trip: Trip) -> Event:
    """Looks before it writes, as services do that are often asked in vain."""
    if "board_ship" in trip.refuse:
        raise StepRejected("no room")
    session.add(Booking(trip=trip.trip, what="ship"))
    return Event(EventType("ShipBoarded"), {})


@sagas.command("shipping.leave_ship")
def leave_ship(session: Session, trip: Trip) -> None:
    if "leave_ship" in trip.refuse:
        raise StepRejected("at sea")
    session.delete(session.get_one(Booking, (trip.trip, "ship")))


CRUISE = sagas.saga("cruise", Step(trip.book_hotel, trip.cancel_hotel), Step(board_ship, leave_ship))
CROSSING = sagas.saga("crossing", Step(board_ship, leave_ship), Step(trip.book_flight))


def start_cruise(saga: OrchestratedSaga = CRUISE, **payload: Any) -> str:
    aggregate_id = new_id()
    with runtime.current().database.transaction() as session:
        return saga.start(session, aggregate_id, {"trip": aggregate_id, **payload}).id


# forward


def test_what_waits_together_is_done_with_one_commit(wire: Wire) -> None:
    started = [trip.start() for _ in range(3)]
    messages = wire.take(HOTEL)

    with one_commit():
        replies = run_together(messages)

    done = {"success": True, "stepId": "book_hotel", "result": {"what": "hotel"}, "error": None}
    assert replies == [{**done, "sagaId": saga_id} for saga_id in started]
    assert wire.names() == [CAR] * 3
    assert sagas_of(wire.waiting) == started
    assert [message.parent_id for message in wire.waiting] == [message.task_id for message in messages]
    assert [events(saga_id) for saga_id in started] == [["HotelBooked"]] * 3


def test_subscribers_are_sent_events_by_the_step_that_published_them(wire: Wire) -> None:
    placed = [order(Pattern.ORCHESTRATION) for _ in range(2)]
    while COMPLETE not in wire.names():
        wire.deliver(wire.names()[0])
    messages = wire.take(COMPLETE)
    assert sagas_of(messages) == [one.saga_id for one in placed]

    run_together(messages)

    assert wire.names() == [NOTIFY] * 2
    assert sagas_of(wire.waiting) == sagas_of(messages)
    assert [message.parent_id for message in wire.waiting] == [message.task_id for message in messages]


def test_a_message_that_is_there_twice_is_done_once(wire: Wire) -> None:
    saga_id, other = trip.start(), trip.start()
    message, company = wire.take(HOTEL)

    first, _, again = run_together([message, company, message])

    assert first == again
    assert diary == ["book_hotel"] * 2
    assert logged(saga_id, "book_hotel") == logged(other, "book_hotel") == ("completed", 1, [])
    # a repetition lets its own chain go on, here and alone: its first worker may have died before it did
    cars = wire.take(CAR)
    assert sagas_of(cars) == [saga_id, other, saga_id]
    assert cars[0].task_id == cars[2].task_id

    run_together(cars)
    wire.deliver_all()

    assert statuses(saga_id, other) == ["completed"] * 2
    assert diary.count("book_car") == 2


def test_of_two_chains_of_a_saga_in_one_batch_one_goes_on(wire: Wire) -> None:
    saga_id = trip.start()
    sagas.resume(saga_id)
    messages = wire.take(HOTEL)

    first, second = run_together(messages)

    assert first == second
    assert diary == ["book_hotel"]
    (following,) = wire.waiting
    assert following.task == CAR
    assert following.parent_id == messages[0].task_id  # that of the message that was there first


def before_the_car(wire: Wire, **payload: Any) -> Message:
    """Start a trip; returns the message that wants its car booked, when that is due."""
    trip.start(**payload)
    wire.deliver(HOTEL)
    (message,) = wire.take(CAR)
    return message


def asking_for_a_car(wire: Wire, saga_id: str) -> Message:
    """Return a message that wants a saga's car booked, whatever saga that is."""
    sagas.engine.publisher.send_chain([CAR], saga_id=saga_id)
    (message,) = wire.take(CAR)
    return message


def test_a_batch_may_hold_messages_of_every_kind(wire: Wire) -> None:
    simple = before_the_car(wire)
    tried = before_the_car(wire, fail={"book_car": 1})
    run(tried)
    (tried,) = wire.take(CAR)
    passed = before_the_car(wire)
    run(passed)
    closed = before_the_car(wire)
    sagas.cancel(str(closed.saga_id))
    faulty = before_the_car(wire, simulate={"inventory": "fail:1"})
    guarded = before_the_car(wire, licence=False)
    early = asking_for_a_car(wire, trip.start())
    foreign, unknown, nonsense = (
        asking_for_a_car(wire, saga_id) for saga_id in (order(Pattern.ORCHESTRATION).saga_id, new_id(), "no id")
    )
    messages = [tried, passed, closed, simple, faulty, guarded, early, foreign, unknown, nonsense]
    wire.waiting.clear()

    def log(message: Message) -> tuple[str, int, list[str]] | None:
        return logged(str(message.saga_id), "book_car")

    with batched(messages):
        assert diary.count("book_car") == 4  # beside what was done before
        assert log(simple) == ("completed", 1, [])
        assert log(tried) == ("completed", 2, ["book_car is down"])
        assert log(guarded) == ("failed", 1, ["guard: the traveller must have a licence"])
        assert log(faulty) is None  # a fault is injected outside the transaction, so it is left to its own task
        results = {message.task_id: run(message) for message in messages}

    def error(message: Message) -> str:
        return str(results[message.task_id]["error"])

    assert diary.count("book_car") == 4
    assert log(tried) == ("completed", 2, ["book_car is down"])
    assert log(passed) == ("completed", 1, [])
    assert results[passed.task_id]["success"]
    assert error(closed) == "the saga is compensating"
    assert error(early) == "book_hotel comes first"
    assert [error(message) for message in (foreign, unknown, nonsense)] == [
        "no such saga or step",
        *["no such saga"] * 2,
    ]
    assert log(faulty) == ("retrying", 1, ["unavailable, as simulated (1 of 1)"])
    assert log(guarded) == ("failed", 1, ["guard: the traveller must have a licence"])
    assert isinstance(results[guarded.task_id], StepFailed)
    # those that were done go on, as does the chain of the repetition; the rest ends or comes again
    assert sorted(wire.names()) == [CAR, ERROR_CALLBACK, FLIGHT, FLIGHT, FLIGHT]
    assert sagas.engine.batches.is_batchable(CAR)  # nothing of this was a fault of the batch


# a member that fails


def on_the_way(wire: Wire, *, to: str, **payload: Any) -> tuple[str, str, str]:
    """Bring three trips to where this task is next, the second with a payload of its own; returns their ids."""
    first, second, third = trip.start(), trip.start(**payload), trip.start()
    while wire.names() != [to] * 3:
        wire.deliver(wire.names()[0])
    diary.clear()
    return first, second, third


@pytest.mark.parametrize(
    ("payload", "status", "error", "follows"),
    [
        ({"fail": {"book_car": 99}}, "retrying", "book_car is down", CAR),
        ({}, "retrying", "IntegrityError", CAR),
        ({"refuse": ["book_car"]}, "failed", "no book_car", ERROR_CALLBACK),
    ],
    ids=["unavailable", "unforeseen", "rejected after it has written"],
)
def test_an_error_rolls_back_its_batch_and_each_is_executed_alone(
    wire: Wire, payload: dict[str, Any], status: str, error: str, follows: str
) -> None:
    first, faulty, last = on_the_way(wire, to=CAR, **payload)
    if not payload:  # the car is booked already, so that booking it again breaks a constraint
        with runtime.current().database.transaction() as session:
            session.add(Booking(trip=stored.saga(faulty).aggregate_id, what="car"))
    messages = wire.take(CAR)

    with batched(messages):
        assert [logged(saga_id, "book_car") for saga_id in (first, faulty, last)] == [None] * 3
        assert trip.booked(first) == trip.booked(last) == {"hotel"}
        assert not sagas.engine.batches.is_batchable(CAR)
        for message in messages:
            run(message)

    assert logged(first, "book_car") == logged(last, "book_car") == ("completed", 1, [])
    row = stored.step(faulty, "book_car")
    assert (row.status, row.attempts) == (status, 1)
    assert [error in failure["error"] for failure in row.failures] == [True]
    assert sorted(wire.names()) == sorted([follows, FLIGHT, FLIGHT])

    wire.deliver_all()
    assert statuses(first, faulty, last) == ["completed", "compensated", "completed"]


def test_a_rejection_that_has_written_nothing_is_committed_with_the_others(wire: Wire) -> None:
    first, refused, last = start_cruise(), start_cruise(refuse=["board_ship"]), start_cruise()
    wire.deliver(HOTEL)
    messages = wire.take(BOARD)

    with batched(messages):
        assert logged(refused, "board_ship") == ("failed", 1, ["no room"])
        assert statuses(first, last) == ["completed"] * 2
        _, failure, _ = [run(message) for message in messages]

    assert isinstance(failure, StepFailed)
    assert failure.reply.error == "no room"
    assert events(refused) == ["HotelBooked", "NoRoom"]
    assert sagas.engine.batches.is_batchable(BOARD)
    assert wire.names() == [ERROR_CALLBACK]
    assert sagas_of(wire.waiting) == [refused]
    assert wire.waiting[0].parent_id == messages[1].task_id

    wire.deliver_all()
    assert stored.saga(refused).status == "compensated"
    assert stored.saga(refused).error == "board_ship: no room"
    assert trip.booked(refused) == set()


def test_a_rejection_past_the_pivot_makes_the_saga_stuck(wire: Wire) -> None:
    first, refused, last = on_the_way(wire, to=TICKETS, refuse=["send_tickets"])

    with one_commit():
        _, failure, _ = wire.deliver(TICKETS)

    assert isinstance(failure, StepFailed)
    assert statuses(first, refused, last) == ["completed", "stuck", "completed"]
    assert stored.saga(refused).failure_reason == "notifications.send_tickets: no send_tickets"
    assert wire.deliver(ERROR_CALLBACK) == ["nothing to compensate"]
    assert wire.waiting == []
    assert trip.booked(refused) == {"hotel", "car", "flight"}


# back


def test_error_callbacks_and_compensations_are_done_together(wire: Wire) -> None:
    late = [trip.start(refuse=["book_flight"]) for _ in range(2)]
    early = trip.start(refuse=["book_car"])
    wire.deliver(HOTEL, CAR, FLIGHT)
    callbacks = wire.take(ERROR_CALLBACK)
    assert wire.waiting == []

    with one_commit():
        assert run_together(callbacks) == ["compensating"] * 3

    assert wire.names() == [CANCEL_CAR] * 3
    assert {message.saga_id: message.parent_id for message in wire.waiting} == {
        message.saga_id: message.task_id for message in callbacks
    }

    with one_commit():
        replies = wire.deliver(CANCEL_CAR)
    assert [reply["success"] for reply in replies] == [True] * 3
    assert [logged(saga_id, "book_car", "compensation") for saga_id in late] == [("completed", 1, [])] * 2
    assert logged(early, "book_car", "compensation") == ("skipped", 1, [])
    assert diary.count("cancel_car") == 2

    with one_commit():
        wire.deliver(CANCEL_HOTEL)
    assert wire.waiting == []
    assert statuses(*late, early) == ["compensated"] * 3
    assert [trip.booked(saga_id) for saga_id in (*late, early)] == [set()] * 3


def test_error_callbacks_that_find_nothing_to_do_are_no_trouble_to_others(wire: Wire) -> None:
    failed, going_on, unknown = trip.start(refuse=["book_hotel"]), trip.start(), new_id()
    wire.deliver(HOTEL)
    wire.take(CAR)
    for saga_id in (failed, going_on, unknown, "no id"):
        sagas.engine.publisher.send_chain([ERROR_CALLBACK], saga_id=saga_id)

    answers = wire.deliver(ERROR_CALLBACK)  # the first saga's own is one of them

    assert sorted(answers) == [
        "book_car has not failed",
        "compensating",
        "no such saga",
        "no such saga",
        "nothing to compensate",
    ]
    assert wire.names() == [CANCEL_HOTEL]
    assert stored.saga(going_on).status == "running"


def test_a_compensation_that_fails_is_retried_by_itself(wire: Wire) -> None:
    first, faulty, last = on_the_way(wire, to=FLIGHT, fail={"cancel_car": 99})
    wire.waiting.clear()
    for saga_id in (first, faulty, last):
        sagas.cancel(saga_id)

    wire.deliver(CANCEL_CAR)

    assert logged(first, "book_car", "compensation") == logged(last, "book_car", "compensation") == ("completed", 1, [])
    assert logged(faulty, "book_car", "compensation") == ("retrying", 1, ["cancel_car is down"])
    wire.deliver_all()
    assert statuses(first, faulty, last) == ["compensated", "stuck", "compensated"]


def test_a_rejection_of_a_compensation_is_retried(wire: Wire) -> None:
    first, refusing, last = (start_cruise(CROSSING, refuse=refuse) for refuse in ([], ["leave_ship"], []))
    wire.deliver(BOARD)
    wire.waiting.clear()
    for saga_id in (first, refusing, last):
        sagas.cancel(saga_id)

    wire.deliver("shipping.leave_ship")

    assert statuses(first, refusing, last) == ["compensated", "compensating", "compensated"]
    assert logged(refusing, "board_ship", "compensation") == ("retrying", 1, ["at sea"])
    assert trip.booked(refusing) == {"ship"}


# the database and the process


def break_next_commit(monkeypatch: pytest.MonkeyPatch, *, answer_lost: bool) -> None:
    dialect: Any = runtime.current().database.engine.dialect
    commit = dialect.do_commit

    def do_commit(connection: Any) -> None:
        dialect.do_commit = commit
        if answer_lost:
            commit(connection)
        error = OperationalError("database is locked")
        error.sqlite_errorcode = 5
        raise error

    monkeypatch.setattr(dialect, "do_commit", do_commit)


@pytest.mark.parametrize("answer_lost", [False, True])
def test_a_commit_that_fails_loses_nothing(wire: Wire, monkeypatch: pytest.MonkeyPatch, answer_lost: bool) -> None:
    started = [trip.start() for _ in range(3)]
    messages = wire.take(HOTEL)
    break_next_commit(monkeypatch, answer_lost=answer_lost)

    with batched(messages):
        assert [logged(saga_id, "book_hotel") is not None for saga_id in started] == [answer_lost] * 3
        replies = [run(message) for message in messages]

    assert [reply["success"] for reply in replies] == [True] * 3
    assert [logged(saga_id, "book_hotel") for saga_id in started] == [("completed", 1, [])] * 3
    assert [events(saga_id) for saga_id in started] == [["HotelBooked"]] * 3
    assert sagas_of(wire.waiting) == started
    wire.deliver_all()
    assert statuses(*started) == ["completed"] * 3


def test_results_are_not_kept_when_the_worker_is_interrupted(wire: Wire) -> None:
    trip.start(), trip.start()
    first, second = wire.take(HOTEL)

    with pytest.raises(KeyboardInterrupt), batched([first, second]):
        assert sagas.engine.batches.results.pop(first.task_id, None) is not None
        assert sagas.engine.batches.results.pop(first.task_id, None) is None  # it is handed out once
        raise KeyboardInterrupt

    assert sagas.engine.batches.results.pop(second.task_id, None) is None


def test_only_what_calls_no_gateway_is_batchable() -> None:
    tasks = (HOTEL, ERROR_CALLBACK, "payments.process_payment", "orchestrator.sweep")
    assert [sagas.engine.batches.is_batchable(task) for task in tasks] == [True, True, False, False]
