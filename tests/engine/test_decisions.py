"""What a delivery means, decision by decision: pure functions, without a database or a worker."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4, uuid5

import pytest

from durable_sagas.decisions import (
    TRIES,
    AlreadyFailed,
    Check,
    Consequence,
    Drop,
    Position,
    QueueState,
    Reject,
    Repeat,
    Run,
    Skip,
    StepRef,
    Verdict,
    Void,
    decide_check,
    decide_failure,
    decide_reaction,
    decide_step,
)
from durable_sagas.definition import Command, Guard, Operation, RetryPolicy, Saga, Step
from durable_sagas.ids import new_id
from durable_sagas.messages import Event, EventType
from durable_sagas.models import SagaInstance, SagaStep
from durable_sagas.reactions import Abort, Compensate, Execute
from durable_sagas.saga_log import Log

ACTION, COMPENSATION = Operation.ACTION, Operation.COMPENSATION
MINE, OTHER = str(uuid5(uuid4(), "mine")), str(uuid5(uuid4(), "other"))
GONE, NOTHING_DONE = EventType("Gone"), EventType("NothingDone")


def a_command(name: str, **options: Any) -> Command:
    return Command(f"service.{name}", lambda *_: None, dict, **options)


def a_gateway_command(name: str, **options: Any) -> Command:
    return a_command(name, call=lambda *_: None, **options)


LICENSED = Guard("there must be a licence", lambda saga: saga.payload.get("licence", True))
HOTEL = Step(a_command("book_hotel"), a_command("cancel_hotel"), retry=RetryPolicy.fixed(3))
CAR = Step(a_command("book_car"), a_command("cancel_car"), guard=LICENSED)
CARD = Step(a_gateway_command("charge"), a_gateway_command("refund"))
FLIGHT = Step(a_command("book_flight"), pivot=True)
TRIP = Saga("trip", HOTEL, CAR, CARD, FLIGHT)


def entry(step: str, operation: Operation, status: str, task_id: str | None = OTHER, **values: Any) -> SagaStep:
    return SagaStep(saga_id="s", step=step, operation=operation, status=status, task_id=task_id, **values)


def log(*entries: SagaStep) -> Log:
    return {(one.step, Operation(one.operation)): one for one in entries}


def decide(
    step: Step,
    operation: Operation = ACTION,
    *entries: SagaStep,
    status: str = "running",
    current: str | None = None,
    **payload: Any,
) -> Verdict:
    saga = SagaInstance(
        status=status, current_step=current or step.name, steps=TRIP.step_names, payload=payload, error="why"
    )
    command = step.action if operation is ACTION else step.compensation
    assert command is not None
    ref = StepRef(saga, TRIP.plan(TRIP.step_names), step, operation)
    return decide_step(ref, command, log(*entries), MINE)


def retrying(step: Step, operation: Operation = ACTION) -> SagaStep:
    return entry(step.name, operation, "retrying")


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        # the step is the current one
        (decide(CAR), Run()),
        (decide(CAR, ACTION, retrying(CAR)), Run()),
        (decide(CAR, status="pending"), Run()),
        (decide(CAR, licence=False), Reject("guard: there must be a licence")),
        # the saga is elsewhere
        (decide(CAR, current="book_hotel"), Drop("book_hotel comes first")),
        (decide(CAR, status="compensating"), Drop("the saga is compensating")),
        (decide(CAR, status="stuck"), Drop("the saga is stuck")),
        (decide(CAR, status="compensated"), Drop("the saga is compensated")),
        (decide(HOTEL, COMPENSATION), Drop("the saga is running")),
        (decide(HOTEL, COMPENSATION, status="compensating", current="book_car"), Drop("book_car comes first")),
        # backward: there is something to compensate only if the action took effect, or only a gateway knows
        (decide(CAR, COMPENSATION, entry("book_car", ACTION, "completed"), status="compensating"), Run()),
        (decide(CAR, COMPENSATION, entry("book_car", ACTION, "failed"), status="compensating"), Skip()),
        (decide(CAR, COMPENSATION, retrying(CAR), status="compensating"), Skip()),
        (decide(CAR, COMPENSATION, status="compensating"), Skip()),
        (decide(CARD, COMPENSATION, status="compensating"), Run()),
        # nothing in the log although the saga has passed the step
        (decide(HOTEL, current="book_car"), Drop("never ran")),
    ],
)
def test_a_message_of_an_orchestrated_saga(case: Verdict, verdict: Verdict) -> None:
    assert case == verdict


@pytest.mark.parametrize(
    ("task_id", "current", "resend"),
    [(MINE, "book_car", True), (MINE, "charge", False), (OTHER, "book_car", False)],
    ids=["its worker may have died before it sent the next", "the next step is done too", "another chain is ahead"],
)
def test_a_step_that_is_done_is_repeated_and_only_one_chain_goes_on(task_id: str, current: str, resend: bool) -> None:
    done = entry("book_hotel", ACTION, "completed", task_id)

    assert decide(HOTEL, ACTION, done, current=current) == Repeat(done, resend)


def test_a_compensation_that_is_done_is_repeated() -> None:
    done = entry("book_car", COMPENSATION, "completed", MINE)

    assert decide(CAR, COMPENSATION, done, status="compensating", current="book_hotel") == Repeat(done, resend=True)
    assert decide(CAR, COMPENSATION, done, status="compensated") == Repeat(done, resend=False)


def test_a_failed_step_fails_again_so_that_its_error_callback_is_sent_again() -> None:
    failed = entry("book_car", ACTION, "failed")

    assert decide(CAR, ACTION, failed) == AlreadyFailed(failed)


def test_the_position_of_a_step_in_both_directions() -> None:
    def position(step: Step, operation: Operation, status: str, current: str | None) -> Position:
        saga = SagaInstance(status=status, current_step=current, steps=TRIP.step_names, payload={})
        return StepRef(saga, TRIP.plan(TRIP.step_names), step, operation).position

    assert [position(step, ACTION, "running", "book_car") for step in TRIP.steps] == [
        Position.DONE,
        Position.CURRENT,
        Position.TOO_EARLY,
        Position.TOO_EARLY,
    ]
    assert [position(step, COMPENSATION, "compensating", "book_car") for step in (HOTEL, CAR, CARD)] == [
        Position.TOO_EARLY,
        Position.CURRENT,
        Position.DONE,
    ]
    assert position(CAR, ACTION, "completed", None) is Position.DONE
    assert position(CAR, ACTION, "compensating", "book_car") is Position.CLOSED


PLAIN = a_command("act", on_rejected=lambda *_: Event(GONE))
UNDO = a_command("undo")
CHARGE = a_gateway_command("charge", void=lambda *_: None, on_rejected=lambda *_: Event(GONE))
REFUND = a_gateway_command("refund")


def react(decision: Execute | Compensate | Abort, *entries: SagaStep, past: tuple[EventType, ...] = ()) -> Verdict:
    return decide_reaction(decision, log(*entries), past, MINE)


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        (react(Execute(PLAIN)), Run()),
        (react(Execute(PLAIN), entry("act", ACTION, "retrying")), Run()),
        (react(Execute(PLAIN, unless=GONE)), Run()),
        (react(Execute(PLAIN, unless=GONE), past=(GONE,)), Drop("called off")),
        (react(Execute(CHARGE), entry("charge", ACTION, "closing", error="no answer")), Void("no answer")),
        (react(Compensate(PLAIN, UNDO), entry("act", ACTION, "completed")), Run()),
        (react(Compensate(PLAIN, UNDO)), Skip()),
        (react(Compensate(PLAIN, UNDO, NOTHING_DONE)), Skip(Event(NOTHING_DONE))),
        (react(Compensate(PLAIN, UNDO), entry("act", ACTION, "retrying")), Skip()),
        (react(Compensate(CHARGE, REFUND), entry("charge", ACTION, "failed")), Run()),
        (react(Abort(CHARGE, "too late")), Void("too late")),
        (react(Abort(CHARGE, "too late"), entry("charge", ACTION, "retrying")), Void("too late")),
        (react(Abort(CHARGE, "too late"), entry("charge", ACTION, "closing", error="down")), Void("down")),
    ],
)
def test_a_delivery_of_an_event_to_a_reaction(case: Verdict, verdict: Verdict) -> None:
    assert case == verdict


@pytest.mark.parametrize("status", ["completed", "failed", "skipped"])
@pytest.mark.parametrize(
    ("decision", "operation", "by_other"),
    [
        (Execute(PLAIN), ACTION, False),
        (Compensate(PLAIN, UNDO), COMPENSATION, False),
        (Abort(PLAIN, "late"), ACTION, True),
    ],
)
def test_an_operation_that_ended_is_repeated_by_the_delivery_that_executed_it(
    decision: Execute | Compensate | Abort, operation: Operation, by_other: bool, status: str
) -> None:
    own = entry("act", operation, status, delivery_id=MINE)
    others = entry("act", operation, status, delivery_id=OTHER)

    assert react(decision, own) == Repeat(own, resend=True)
    assert react(decision, others) == Repeat(others, resend=by_other)

    # logged by a version without deliveries: only the first copy of a message has its delivery as task id
    for task_id, resend in ((MINE, True), (OTHER, by_other), (new_id(), True)):
        logged = entry("act", operation, status, task_id, delivery_id=None)
        assert react(decision, logged) == Repeat(logged, resend=resend)


@pytest.mark.parametrize(
    ("command", "operation", "choreographed", "irreversible", "consequence"),
    [
        (PLAIN, ACTION, False, False, Consequence.REJECTION),
        (PLAIN, ACTION, False, True, Consequence.STUCK),
        (PLAIN, COMPENSATION, False, False, Consequence.STUCK),
        (CHARGE, ACTION, True, False, Consequence.VOID),
        (a_command("refuse", on_rejected=lambda *_: Event(GONE)), ACTION, True, False, Consequence.REJECTION),
        (UNDO, ACTION, True, False, Consequence.STUCK),
        (UNDO, COMPENSATION, True, False, Consequence.STUCK),
    ],
)
def test_what_follows_from_the_last_failure(
    command: Command, operation: Operation, choreographed: bool, irreversible: bool, consequence: Consequence
) -> None:
    assert decide_failure(operation, command, choreographed=choreographed, irreversible=irreversible) is consequence


WAIT, REDRIVE, TIME_OUT = Check.WAIT, Check.REDRIVE, Check.TIME_OUT
NOW = datetime(2026, 1, 1, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ready", "served", "silent", "redrives", "overdue", "check"),
    [
        pytest.param(-5, -9, 0, 0, False, WAIT, id="not reached yet, and the queue is served"),
        pytest.param(-500, -509, 0, 0, True, WAIT, id="the same, however long ago the deadline was"),
        pytest.param(-500, -509, -29, 0, True, WAIT, id="not reached, and the queue has been silent for a while"),
        pytest.param(-500, -509, -30, 0, True, TIME_OUT, id="the queue has been silent for the timeout"),
        pytest.param(-500, -509, -30, 0, False, WAIT, id="compensations have no deadline"),
        pytest.param(-29, -509, -500, 0, False, WAIT, id="silent for long, and nothing waited in it"),
        pytest.param(-30, -509, -500, 0, True, TIME_OUT, id="silent since before it was ready"),
        pytest.param(-30, None, 0, 0, True, WAIT, id="only messages that say nothing of it were served"),
        pytest.param(-5, -4.5, 0, 0, False, WAIT, id="about as old as what was served"),
        pytest.param(-5, -3.5, 0, 0, False, REDRIVE, id="overtaken"),
        pytest.param(-5, -3.5, 0, 1, False, WAIT, id="overtaken by too little after a re-drive"),
        pytest.param(-5, -2.5, 0, 1, False, REDRIVE, id="overtaken after a re-drive"),
        pytest.param(-500, 0, 0, 0, True, REDRIVE, id="lost, and found after its deadline"),
        pytest.param(-500, 0, 0, TRIES - 1, True, REDRIVE, id="lost again after its deadline"),
        pytest.param(-500, 0, 0, TRIES, True, TIME_OUT, id="sent often, overtaken each time, and overdue"),
        pytest.param(-500, 0, 0, TRIES, False, REDRIVE, id="sent often and not overdue"),
        pytest.param(3, 0, 0, 0, False, WAIT, id="it waits for its retry"),
        pytest.param(3, 0, 0, 0, True, TIME_OUT, id="begun before its deadline, and not done at it"),
    ],
)
def test_what_a_sweep_does_with_a_saga_that_waits_in_a_queue(
    ready: float, served: float | None, silent: float, redrives: int, overdue: bool, check: Check
) -> None:
    def at(seconds: float) -> datetime:
        return NOW + timedelta(seconds=seconds)

    queue = QueueState(None if served is None else at(served), at(silent))
    deadline = at(0) if overdue else None

    assert decide_check(at(ready), redrives, deadline, timedelta(seconds=30), queue, NOW) is check


@pytest.mark.parametrize(("silent", "check"), [(2.9, WAIT), (3, TIME_OUT)])
def test_no_service_counts_as_down_between_two_reports(silent: float, check: Check) -> None:
    ready_at, silent_since = NOW - timedelta(seconds=9), NOW - timedelta(seconds=silent)
    queue = QueueState(None, silent_since)

    assert decide_check(ready_at, 0, NOW, timedelta(seconds=1), queue, NOW) is check
