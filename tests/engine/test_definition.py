"""What a saga may be: refused at once when it could not be undone."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from app.errors import DefinitionError
from durable_sagas.commands import command as declare
from durable_sagas.definition import Command, RetryPolicy, Saga, Step, UnknownStep, after
from durable_sagas.messages import Event, EventType
from durable_sagas.reactions import Abort, Compensate, Execute


def command(name: str, **options: Any) -> Command:
    return Command(name, lambda *_: Event(EventType("Done")), dict, **options)


def calls(*_: Any) -> None:
    """Stand for a gateway."""


async def nobody_awaits(*_: object) -> None: ...


class Note(BaseModel): ...


def note(_session: object, _note: Note) -> None:
    """A command's function."""


BOOK, CANCEL, BOARD = command("hotel.book"), command("hotel.cancel"), command("flight.board")
CHARGE, REFUND = command("bank.charge", call=calls), command("bank.refund")


@pytest.mark.parametrize(
    ("match", "define"),
    [
        ("no steps", lambda: Saga("trip")),
        ("used twice", lambda: Saga("trip", Step(BOOK), Step(BOARD, BOOK))),
        ("after the pivot", lambda: Saga("trip", Step(BOARD, pivot=True), Step(BOOK, CANCEL))),
        ("more than one pivot", lambda: Saga("trip", Step(BOARD, pivot=True), Step(BOOK, pivot=True))),
        ("two steps named book", lambda: Saga("trip", Step(BOOK), Step(command("flight.book")))),
        ("two steps named book", lambda: Saga("trip", Step(BOOK), retired=[Step(command("flight.book"))])),
        # a guard can only wait for an earlier step
        ("board", lambda: Saga("trip", Step(BOOK, guard=after("board")), Step(BOARD))),
        # what a gateway did must be compensated, or voided, at the gateway
        ("gateway", lambda: Saga("trip", Step(CHARGE, REFUND))),
        ("declare a void", lambda: Execute(CHARGE)),
        ("declare an on_rejected", lambda: declare("bank.charge", note, call=calls, void=calls)),
        ("declare an on_rejected", lambda: Abort(BOOK, "too late")),
        ("must void", lambda: Compensate(command("bank.charge", call=calls, void=calls), REFUND)),
        # what calls a gateway is never batched
        ("needs no locks", lambda: declare("shipping.never", calls, call=calls, lock_shared_rows=calls)),
        ("which nothing awaits", lambda: declare("bank.charge", calls, call=nobody_awaits)),
        # every function is called as the engine calls it
        ("2 positional arguments", lambda: declare("bank.charge", lambda _session, _note, _answer: None)),
        ("3 positional arguments", lambda: declare("bank.charge", note, on_rejected=lambda _session, _note: None)),
        ("4 positional", lambda: declare("bank.charge", note, void=calls, on_rejected=note)),
        ("a command of at most 64 letters", lambda: declare(f"bank.{'x' * 65}", note)),
        ("is not a command", lambda: Step(calls)),  # type: ignore[arg-type]
        ("must be positive", lambda: Saga("trip", Step(BOOK, timeout=0))),
        ("attempts", lambda: RetryPolicy(attempts=0, delay=1)),
        ("not a usable retry policy", lambda: RetryPolicy(attempts=1, delay=-1)),
        ("not a usable retry policy", lambda: RetryPolicy(attempts=1, delay=1, jitter=2)),
        ("not a usable retry policy", lambda: RetryPolicy(attempts=1, delay=1, limit=600)),
        ("not a usable retry policy", lambda: RetryPolicy.fixed(3, delay=121)),
    ],
)
def test_what_could_not_be_executed_or_compensated_is_refused(match: str, define: Callable[[], object]) -> None:
    with pytest.raises(DefinitionError, match=match):
        define()


def test_a_step_is_named_by_its_action_and_may_wait_for_an_earlier_one() -> None:
    saga = Saga("trip", Step(BOOK, CANCEL), Step(BOARD, guard=after("book")))

    assert saga.step_names == ["book", "board"]
    Saga("trip", Step(CHARGE, command("bank.refund", call=calls)))


def test_a_saga_in_flight_keeps_its_steps() -> None:
    deployed = Saga("trip", Step(command("hotel.book_suite")), retired=[Step(BOOK)])

    assert deployed.step_names == ["book_suite"]
    assert [step.name for step in deployed.plan(["book"]).steps] == ["book"]
    with pytest.raises(UnknownStep, match="book_tent"):
        deployed.plan(["book_tent"])


def test_the_current_step_and_those_before_are_compensated_in_reverse() -> None:
    look, reserve = command("hotel.look_around"), command("flight.reserve")
    saga = Saga("trip", Step(BOOK, CANCEL), Step(look), Step(reserve, command("flight.free")), Step(BOARD, pivot=True))
    plan = saga.plan(saga.step_names)

    assert [step.name for step in plan.to_compensate("reserve")] == ["reserve", "book"]
    assert [step.name for step in plan.to_compensate("look_around")] == ["book"]
    assert not plan.past_pivot("board")
    assert plan.past_pivot(None)


def test_retries_wait_equally_long_or_twice_as_long_each_time_up_to_a_limit() -> None:
    exponential, fixed = RetryPolicy.exponential(5, delay=1, limit=3), RetryPolicy.fixed(3, delay=60)

    assert [exponential.wait(attempt, lambda: 0.0) for attempt in (1, 2, 3, 4)] == [1, 2, 3, 3]
    assert exponential.wait(1, lambda: 1.0) == 0.5  # with its full jitter
    assert fixed.wait(1) == fixed.wait(2) == 60
    assert [fixed.exhausted(attempts) for attempts in (2, 3, 4)] == [False, True, True]


def test_an_outline_stored_before_timeouts_were_checked_can_still_be_driven() -> None:
    plan = Saga("trip", Step(BOOK)).plan(["book", "fly"], [{"action": "flight.fly", "timeout": 0}])

    assert [step.name for step in plan.steps] == ["book", "fly"]
