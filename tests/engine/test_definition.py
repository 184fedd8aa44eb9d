"""What a saga may be: refused at once when it could not be undone."""

from typing import Any

import pytest

from app.errors import DefinitionError
from durable_sagas.commands import command as declare
from durable_sagas.definition import Command, RetryPolicy, Saga, Step, UnknownStep, after
from durable_sagas.messages import Event, EventType
from durable_sagas.reactions import Compensate, Execute


def command(name: str, **options: Any) -> Command:
    return Command(name, lambda *_: Event(EventType("Done")), dict, **options)


def calls(*_: Any) -> None:
    """Stand for a gateway."""


def test_a_step_is_named_by_its_action() -> None:
    step = Step(command("hotel.book_room"), command("hotel.cancel_room"))

    assert step.name == "book_room"
    assert Saga("trip", step).step_names == ["book_room"]


def test_a_saga_needs_steps() -> None:
    with pytest.raises(DefinitionError, match="no steps"):
        Saga("trip")


def test_a_command_stands_for_one_thing_only() -> None:
    book = command("hotel.book_room")
    with pytest.raises(DefinitionError, match="used twice"):
        Saga("trip", Step(book), Step(command("flight.book_seat"), book))


def test_nothing_after_the_pivot_can_be_compensated() -> None:
    pivot = Step(command("flight.board"), pivot=True)
    with pytest.raises(DefinitionError, match="after the pivot"):
        Saga("trip", pivot, Step(command("hotel.book_room"), command("hotel.cancel_room")))


def test_there_is_one_point_of_no_return() -> None:
    with pytest.raises(DefinitionError, match="more than one pivot"):
        Saga("trip", Step(command("flight.board"), pivot=True), Step(command("hotel.enter"), pivot=True))


def test_what_a_gateway_did_must_be_undone_at_the_gateway() -> None:
    charge = command("bank.charge", call=calls)
    with pytest.raises(DefinitionError, match="gateway"):
        Saga("trip", Step(charge, command("bank.refund")))
    Saga("trip", Step(charge, command("bank.refund", call=calls)))


def test_a_command_that_is_never_done_together_has_no_locks() -> None:
    with pytest.raises(DefinitionError, match="needs no locks"):
        declare("shipping.never", lambda *_: None, call=lambda *_: None, lock_shared_rows=lambda *_: None)


def test_a_coroutine_function_is_refused_where_nothing_awaits_it() -> None:
    async def charge(*_: object) -> None: ...

    with pytest.raises(DefinitionError, match="which nothing awaits"):
        declare("bank.charge", lambda *_: None, call=charge)


def test_a_saga_in_flight_keeps_its_steps() -> None:
    old, new = Step(command("hotel.book_room")), Step(command("hotel.book_suite"))

    deployed = Saga("trip", new, retired=[old])

    assert deployed.step_names == ["book_suite"]
    assert [step.name for step in deployed.plan(["book_room"]).steps] == ["book_room"]
    with pytest.raises(UnknownStep, match="book_tent"):
        deployed.plan(["book_tent"])


def test_what_is_undone_is_the_current_step_and_those_before_in_reverse() -> None:
    saga = Saga(
        "trip",
        Step(command("hotel.book_room"), command("hotel.cancel_room")),
        Step(command("hotel.look_around")),
        Step(command("flight.book_seat"), command("flight.cancel_seat")),
        Step(command("flight.board"), pivot=True),
    )
    plan = saga.plan(saga.step_names)

    assert [step.name for step in plan.to_compensate("book_seat")] == ["book_seat", "book_room"]
    assert [step.name for step in plan.to_compensate("look_around")] == ["book_room"]
    assert not plan.past_pivot("board")
    assert plan.past_pivot(None)


def test_exponential_retries_double_with_jitter_up_to_their_limit() -> None:
    policy = RetryPolicy.exponential(5, delay=1, limit=3)

    assert [policy.wait(attempt, lambda: 0.0) for attempt in (1, 2, 3, 4)] == [1, 2, 3, 3]
    assert policy.wait(1, lambda: 1.0) == 0.5


def test_fixed_retries_wait_equally_long() -> None:
    policy = RetryPolicy.fixed(2, delay=0.3)

    assert policy.wait(1) == policy.wait(3) == 0.3


def test_a_policy_is_exhausted_after_its_attempts() -> None:
    policy = RetryPolicy.fixed(2)

    assert [policy.exhausted(attempts) for attempts in (1, 2, 3)] == [False, True, True]


def test_two_steps_of_one_name_are_refused() -> None:
    with pytest.raises(DefinitionError, match="two steps named book"):
        Saga("trip", Step(command("hotel.book")), Step(command("flight.book")))
    with pytest.raises(DefinitionError, match="two steps named book"):
        Saga("trip", Step(command("hotel.book")), retired=[Step(command("flight.book"))])


def test_a_guard_can_only_wait_for_an_earlier_step() -> None:
    first, second = command("hotel.book_room"), command("flight.book_seat")

    Saga("trip", Step(first), Step(second, guard=after("book_room")))
    with pytest.raises(DefinitionError, match="book_seat"):
        Saga("trip", Step(first, guard=after("book_seat")), Step(second))


def test_a_reaction_that_could_not_be_voided_is_refused() -> None:
    with pytest.raises(DefinitionError, match="declare a void"):
        Execute(command("bank.charge", call=calls))
    with pytest.raises(DefinitionError, match="must void"):
        Compensate(command("bank.charge", call=calls, void=calls), command("bank.refund"))


@pytest.mark.parametrize(
    "values",
    [
        {"attempts": 0, "delay": 1},
        {"attempts": 1, "delay": -1},
        {"attempts": 1, "delay": 1, "jitter": 2},
        {"attempts": 1, "delay": 1, "limit": 600},
    ],
)
def test_a_senseless_policy_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        RetryPolicy(**values)


def test_a_fixed_delay_is_used_as_it_is_and_has_the_same_bound() -> None:
    assert RetryPolicy.fixed(3, delay=60).wait(2) == 60
    with pytest.raises(DefinitionError, match="not a usable retry policy"):
        RetryPolicy.fixed(3, delay=121)
