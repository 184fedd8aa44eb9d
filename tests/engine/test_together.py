"""Several steps' messages in one transaction: each ends as alone, and a fault of one is its own."""

from collections.abc import Callable
from sqlite3 import OperationalError
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app import runtime
from app.database import Database
from app.errors import StepFailed, StepRejected
from app.runtime import Runtime
from app.sagas import sagas
from bench.statements import Counted
from durable_sagas import OrchestratedSaga
from durable_sagas.definition import Step
from durable_sagas.history import history
from durable_sagas.ids import new_id
from durable_sagas.messages import Event, EventType
from durable_sagas.messaging import batching
from tests.engine import trip
from tests.engine.trip import Booking, Trip, diary
from tests.engine.wire import Wire, id_of, parent_of, run_together, wanted
from tests.simulation.messages import Message, run
from tests.testkit.messages import ERROR_CALLBACK
from workflows.orders import Item, NewOrder, Pattern, place

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


def commits(counted: Counted) -> int:
    return sum(count for verb, count in counted.verbs.items() if "commit" in verb)


def statuses(*saga_ids: str) -> list[str]:
    return [trip.saga(saga_id).status for saga_id in saga_ids]


def events(saga_id: str) -> list[tuple[int, str]]:
    with runtime.current().database.reading() as session:
        past = history(session, trip.saga(saga_id).aggregate_id).events
        return [(event.sequence, event.event_type) for event in past]


def logged(saga_id: str, name: str, operation: str = "action") -> tuple[str, int, list[str]] | None:
    """Return what the log says of an operation: its status, its attempts, and what went wrong in them."""
    row = trip.step(saga_id, name, operation)
    return (row.status, row.attempts, [failure["error"] for failure in row.failures]) if row else None


def sagas_of(messages: list[Message]) -> list[str]:
    return [message.arguments["saga_id"] for message in messages]


# forward


def test_what_waits_together_is_done_with_one_commit(here: Runtime, wire: Wire) -> None:
    started = [trip.start() for _ in range(3)]
    messages = wire.take(HOTEL)
    counted = Counted(here.database.engine)

    with sagas.engine.batches.batch_results(HOTEL, wanted(messages)):
        assert commits(counted) == 1
        replies = [run(message) for message in messages]
        assert commits(counted) == 1

    done = {"success": True, "stepId": "book_hotel", "result": {"what": "hotel"}, "error": None}
    assert replies == [{**done, "sagaId": saga_id} for saga_id in started]
    assert wire.names() == [CAR] * 3
    assert sagas_of(wire.waiting) == started
    assert [parent_of(message) for message in wire.waiting] == [id_of(message) for message in messages]
    assert [events(saga_id) for saga_id in started] == [[(1, "HotelBooked")]] * 3


def test_sagas_go_all_the_way_together(wire: Wire) -> None:
    started = [trip.start() for _ in range(3)]

    while wire.waiting:
        assert wire.names() == wire.names()[:1] * 3
        wire.deliver(wire.names()[0])

    assert statuses(*started) == ["completed"] * 3
    assert [diary.count(name.partition(".")[2]) for name in (HOTEL, CAR, FLIGHT, TICKETS)] == [3] * 4
    for saga_id in started:
        assert trip.states(saga_id) == ["STARTED", "HOTEL_BOOKED", "CAR_BOOKED", "COMPLETED"]
        assert trip.booked(saga_id) == {"hotel", "car", "flight"}


def test_who_listens_is_told_by_the_step_that_said_it(wire: Wire) -> None:
    placed = [place(NewOrder((Item("item-001", 1),), Pattern.ORCHESTRATION)) for _ in range(2)]
    while COMPLETE not in wire.names():
        wire.deliver(wire.names()[0])
    messages = wire.take(COMPLETE)
    assert sagas_of(messages) == [one.saga_id for one in placed]

    run_together(messages)

    assert wire.names() == [NOTIFY] * 2
    assert sagas_of(wire.waiting) == sagas_of(messages)
    assert [parent_of(message) for message in wire.waiting] == [id_of(message) for message in messages]


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
    assert id_of(cars[0]) == id_of(cars[2])

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
    assert parent_of(following) == id_of(messages[0])  # that of the message that was there first


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
    sagas.cancel(closed.arguments["saga_id"])
    faulty = before_the_car(wire, simulate={"inventory": "fail:1"})
    guarded = before_the_car(wire, licence=False)
    early = asking_for_a_car(wire, trip.start())
    order = place(NewOrder((Item("item-001", 1),), Pattern.ORCHESTRATION))
    foreign, unknown, nonsense = (asking_for_a_car(wire, saga_id) for saga_id in (order.saga_id, new_id(), "no id"))
    messages = [tried, passed, closed, simple, faulty, guarded, early, foreign, unknown, nonsense]
    wire.waiting.clear()

    def log(message: Message) -> tuple[str, int, list[str]] | None:
        return logged(message.arguments["saga_id"], "book_car")

    with sagas.engine.batches.batch_results(CAR, wanted(messages)):
        assert diary.count("book_car") == 4  # beside what was done before
        assert log(simple) == ("completed", 1, [])
        assert log(tried) == ("completed", 2, ["book_car is down"])
        assert log(guarded) == ("failed", 1, ["guard: the traveller must have a licence"])
        assert log(faulty) is None  # a fault is injected outside the transaction, so it is left to its own task
        results = {id_of(message): run(message) for message in messages}

    def error(message: Message) -> str:
        return str(results[id_of(message)]["error"])

    assert diary.count("book_car") == 4
    assert log(tried) == ("completed", 2, ["book_car is down"])
    assert log(passed) == ("completed", 1, [])
    assert results[id_of(passed)]["success"]
    assert error(closed) == "the saga is compensating"
    assert error(early) == "book_hotel comes first"
    assert [error(message) for message in (foreign, unknown, nonsense)] == [
        "no such saga or step",
        *["no such saga"] * 2,
    ]
    assert log(faulty) == ("retrying", 1, ["unavailable, as simulated (1 of 1)"])
    assert log(guarded) == ("failed", 1, ["guard: the traveller must have a licence"])
    assert isinstance(results[id_of(guarded)], StepFailed)
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


def is_down(_: str) -> None:
    """Nothing more: the payload says that it is down."""


def double_booking(saga_id: str) -> None:
    with runtime.current().database.transaction() as session:
        session.add(Booking(trip=trip.saga(saga_id).aggregate_id, what="car"))


@pytest.mark.parametrize(
    ("fail", "prepare", "says"),
    [({"book_car": 99}, is_down, "book_car is down"), ({}, double_booking, "IntegrityError")],
    ids=["unavailable", "unforeseen"],
)
def test_nothing_of_a_batch_with_an_error_in_it_is_committed_and_only_one_has_failed(
    wire: Wire, fail: dict[str, int], prepare: Callable[[str], None], says: str
) -> None:
    first, faulty, last = on_the_way(wire, to=CAR, fail=fail)
    prepare(faulty)
    messages = wire.take(CAR)

    with sagas.engine.batches.batch_results(CAR, wanted(messages)):
        assert [logged(saga_id, "book_car") for saga_id in (first, faulty, last)] == [None] * 3
        assert trip.booked(first) == trip.booked(last) == {"hotel"}
        for message in messages:
            run(message)

    assert logged(first, "book_car") == logged(last, "book_car") == ("completed", 1, [])
    status, attempts, failures = logged(faulty, "book_car") or ("", 0, [])
    assert (status, attempts) == ("retrying", 1)
    assert [says in failure for failure in failures] == [True]
    assert sorted(wire.names()) == [CAR, FLIGHT, FLIGHT]

    wire.deliver_all()
    assert statuses(first, last) == ["completed"] * 2
    assert trip.saga(faulty).status == "compensated"


def test_a_no_of_one_that_has_written_nothing_is_recorded_with_what_the_others_did(here: Runtime, wire: Wire) -> None:
    first, refused, last = start_cruise(), start_cruise(refuse=["board_ship"]), start_cruise()
    wire.deliver(HOTEL)
    messages = wire.take(BOARD)
    counted = Counted(here.database.engine)

    with sagas.engine.batches.batch_results(BOARD, wanted(messages)):
        assert commits(counted) == 1
        assert logged(refused, "board_ship") == ("failed", 1, ["no room"])
        assert statuses(first, last) == ["completed"] * 2
        _, failure, _ = [run(message) for message in messages]

    assert isinstance(failure, StepFailed)
    assert failure.reply.error == "no room"
    assert events(refused) == [(1, "HotelBooked"), (2, "NoRoom")]
    assert sagas.engine.batches.is_batchable(BOARD)
    assert wire.names() == [ERROR_CALLBACK]
    assert sagas_of(wire.waiting) == [refused]
    assert parent_of(wire.waiting[0]) == id_of(messages[1])

    wire.deliver_all()
    assert trip.saga(refused).status == "compensated"
    assert trip.saga(refused).error == "board_ship: no room"
    assert trip.booked(refused) == set()


def test_a_no_of_one_that_has_written_has_each_done_alone(wire: Wire) -> None:
    first, refused, last = on_the_way(wire, to=CAR, refuse=["book_car"])
    messages = wire.take(CAR)

    with sagas.engine.batches.batch_results(CAR, wanted(messages)):
        assert [logged(saga_id, "book_car") for saga_id in (first, refused, last)] == [None] * 3
        assert not sagas.engine.batches.is_batchable(CAR)
        _, failure, _ = [run(message) for message in messages]

    assert isinstance(failure, StepFailed)
    assert logged(refused, "book_car") == ("failed", 1, ["no book_car"])
    assert trip.booked(refused) == {"hotel"}
    assert sorted(wire.names()) == [ERROR_CALLBACK, FLIGHT, FLIGHT]
    wire.deliver_all()
    assert statuses(first, refused, last) == ["completed", "compensated", "completed"]


def test_a_no_past_the_pivot_has_the_saga_stuck(here: Runtime, wire: Wire) -> None:
    first, refused, last = on_the_way(wire, to=TICKETS, refuse=["send_tickets"])
    counted = Counted(here.database.engine)

    _, failure, _ = wire.deliver(TICKETS)

    assert commits(counted) == 1
    assert isinstance(failure, StepFailed)
    assert statuses(first, refused, last) == ["completed", "stuck", "completed"]
    assert trip.saga(refused).failure_reason == "notifications.send_tickets: no send_tickets"
    assert wire.deliver(ERROR_CALLBACK) == ["nothing to undo"]
    assert wire.waiting == []
    assert trip.booked(refused) == {"hotel", "car", "flight"}


# back


def test_error_callbacks_and_compensations_are_done_together(here: Runtime, wire: Wire) -> None:
    late = [trip.start(refuse=["book_flight"]) for _ in range(2)]
    early = trip.start(refuse=["book_car"])
    for task_name in (HOTEL, CAR, FLIGHT):
        wire.deliver(task_name)
    callbacks = wire.take(ERROR_CALLBACK)
    assert wire.waiting == []
    counted = Counted(here.database.engine)

    assert run_together(callbacks) == ["compensating"] * 3

    assert commits(counted) == 1
    assert wire.names() == [CANCEL_CAR] * 3
    assert {message.arguments["saga_id"]: parent_of(message) for message in wire.waiting} == {
        message.arguments["saga_id"]: id_of(message) for message in callbacks
    }

    counted.clear()
    replies = wire.deliver(CANCEL_CAR)
    assert commits(counted) == 1
    assert [reply["success"] for reply in replies] == [True] * 3
    assert [logged(saga_id, "book_car", "compensation") for saga_id in late] == [("completed", 1, [])] * 2
    assert logged(early, "book_car", "compensation") == ("skipped", 1, [])
    assert diary.count("cancel_car") == 2

    counted.clear()
    wire.deliver(CANCEL_HOTEL)
    assert commits(counted) == 1
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
        "nothing to undo",
    ]
    assert wire.names() == [CANCEL_HOTEL]
    assert trip.saga(going_on).status == "running"


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


def test_a_no_of_a_compensation_is_no_last_word(wire: Wire) -> None:
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


def break_next_commit(monkeypatch: pytest.MonkeyPatch, database: Database, *, answer_lost: bool) -> None:
    dialect: Any = database.engine.dialect
    commit, rest = dialect.do_commit, [None]

    def do_commit(connection: Any) -> None:
        if not rest or answer_lost:
            commit(connection)
        if rest:
            rest.pop()
            error = OperationalError("database is locked")
            error.sqlite_errorcode = 5
            raise error

    monkeypatch.setattr(dialect, "do_commit", do_commit)


@pytest.mark.parametrize("answer_lost", [False, True])
def test_a_commit_that_fails_loses_nothing(
    here: Runtime, wire: Wire, monkeypatch: pytest.MonkeyPatch, answer_lost: bool
) -> None:
    started = [trip.start() for _ in range(3)]
    messages = wire.take(HOTEL)
    break_next_commit(monkeypatch, here.database, answer_lost=answer_lost)

    with sagas.engine.batches.batch_results(HOTEL, wanted(messages)):
        assert [logged(saga_id, "book_hotel") is not None for saga_id in started] == [answer_lost] * 3
        replies = [run(message) for message in messages]

    assert [reply["success"] for reply in replies] == [True] * 3
    assert [logged(saga_id, "book_hotel") for saga_id in started] == [("completed", 1, [])] * 3
    assert [events(saga_id) for saga_id in started] == [[(1, "HotelBooked")]] * 3
    assert sagas_of(wire.waiting) == started
    wire.deliver_all()
    assert statuses(*started) == ["completed"] * 3


def test_a_process_that_dies_after_the_commit_leaves_chains_that_go_on(wire: Wire) -> None:
    started = [trip.start() for _ in range(3)]
    messages = wire.take(HOTEL)
    with sagas.engine.batches.batch_results(HOTEL, wanted(messages)):
        run(messages[0])  # and then it dies

    replies = run_together(messages)  # the first had not been acknowledged either

    assert [reply["sagaId"] for reply in replies] == started
    assert [reply["success"] for reply in replies] == [True] * 3
    assert diary == ["book_hotel"] * 3
    assert sorted(sagas_of(wire.waiting)) == sorted([started[0], *started])
    wire.deliver_all()
    assert statuses(*started) == ["completed"] * 3
    assert [len(events(saga_id)) for saga_id in started] == [3] * 3


def test_a_process_that_dies_after_a_refusal_leaves_an_error_callback_that_is_sent(wire: Wire) -> None:
    saga_id, other = start_cruise(refuse=["board_ship"]), start_cruise()
    wire.deliver(HOTEL)
    messages = wire.take(BOARD)
    with sagas.engine.batches.batch_results(BOARD, wanted(messages)):
        pass  # it dies

    failure, _ = run_together(messages)

    assert isinstance(failure, StepFailed)
    assert logged(saga_id, "board_ship") == ("failed", 1, ["no room"])
    assert wire.names() == [ERROR_CALLBACK]
    wire.deliver_all()
    assert statuses(saga_id, other) == ["compensated", "completed"]


# what is kept in memory


class Seconds:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_after_a_batch_that_was_given_up_messages_come_alone_for_a_while(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = Seconds()
    monkeypatch.setattr(batching, "time", seconds)
    on_the_way(wire, to=CAR, refuse=["book_car"])
    assert sagas.engine.batches.is_batchable(CAR)

    wire.deliver(CAR)

    assert not sagas.engine.batches.is_batchable(CAR)
    assert sagas.engine.batches.is_batchable(HOTEL)
    seconds.now += batching.COOLDOWN_SECONDS - 0.1
    assert not sagas.engine.batches.is_batchable(CAR)
    seconds.now += 0.1
    assert sagas.engine.batches.is_batchable(CAR)


def test_outcomes_that_no_task_asked_for_are_not_kept(wire: Wire) -> None:
    trip.start(), trip.start()
    messages = wire.take(HOTEL)

    with sagas.engine.batches.batch_results(HOTEL, wanted(messages)):
        assert sagas.engine.batches.take_result(id_of(messages[0])) is not None
        assert sagas.engine.batches.take_result(id_of(messages[0])) is None  # it is handed out once

    assert sagas.engine.batches.take_result(id_of(messages[1])) is None


def test_outcomes_are_not_kept_when_the_worker_is_interrupted(wire: Wire) -> None:
    trip.start(), trip.start()
    messages = wire.take(HOTEL)

    with pytest.raises(KeyboardInterrupt), sagas.engine.batches.batch_results(HOTEL, wanted(messages)):
        raise KeyboardInterrupt

    assert [sagas.engine.batches.take_result(id_of(message)) for message in messages] == [None, None]


def test_only_tasks_that_say_how_are_done_together() -> None:
    assert sagas.engine.batches.is_batchable(HOTEL)
    assert sagas.engine.batches.is_batchable(ERROR_CALLBACK)
    assert not sagas.engine.batches.is_batchable(
        "payments.process_payment"
    )  # it calls a gateway, and would hold locks meanwhile
    assert not sagas.engine.batches.is_batchable("orchestrator.sweep")
