"""The orchestrator: a saga becomes a Celery chain whose error callback has it undone in reverse.

Nothing here trusts a message. The chain, the error callback and the compensations only say "look now"; the saga's row,
locked, says what there is to do.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from app import runtime, together, tracing
from app.celery import app
from app.database import after_commit
from app.errors import Conflict
from app.events import emit
from app.ids import new_id
from app.publishing import send_chain, sender, sent_by
from app.saga import barrier, by_hand, registry, transitions
from app.saga.attempts import CeleryTask, invoke_by_hand, retried_on_database_fault
from app.saga.by_hand import Statement
from app.saga.definition import (
    COMPENSATION_STARTED,
    FORWARD,
    Operation,
    Plan,
    Saga,
    SagaStatus,
    StepStatus,
    UnknownStep,
)
from app.saga.models import SagaInstance
from app.saga.outage import stop_clock
from app.together import Outcomes, Wanted

logger = logging.getLogger(__name__)

ERROR_CALLBACK = "orchestrator.request_compensation"
NO_SUCH_SAGA = "no such saga"
CANCELLED_ON_REQUEST = "cancelled on request"


def orchestrated(saga: Saga) -> Saga:
    """Make a declared saga known to the orchestrator of this process; returns it."""
    registry.register(Orchestration(saga))
    return saga


def definition(saga_type: str) -> Saga | None:
    """Return the declared saga of this name, if it is an orchestrated one."""
    driver = registry.named(saga_type)
    return driver.saga if isinstance(driver, Orchestration) else None


def plan_of(saga: SagaInstance) -> Plan | None:
    """Return a saga's steps; None if it is no orchestrated one, or has steps that no code deployed here knows."""
    declared = definition(saga.saga_type)
    try:
        return declared.plan(saga.steps) if declared else None
    except UnknownStep:
        return None


def start(session: Session, saga: Saga, aggregate_id: str, payload: Mapping[str, Any]) -> SagaInstance:
    """Write a new saga in the caller's transaction; its chain is published after the commit.

    ``payload`` is plain JSON: what the steps' messages are made of.
    """
    row = begin(session, saga, aggregate_id, payload)
    barrier.write_new(session, [row])
    return row


def begin(session: Session, saga: Saga, aggregate_id: str, payload: Mapping[str, Any]) -> SagaInstance:
    """Return a new saga as ``start`` does, for the caller to write with others: see ``barrier.write_new``."""
    now = runtime.current().now()
    first = saga.steps[0]
    row = SagaInstance(
        id=new_id(),
        saga_type=saga.name,
        aggregate_id=aggregate_id,
        steps=saga.step_names,
        current_step=first.name,
        payload=dict(payload),
    )
    with tracing.beginning(session, row):
        transitions.begin(row, now, transitions.timeout_of(first))
        _publish_forward(session, row, saga.plan(row.steps))
    return row


@app.task(name=ERROR_CALLBACK, bind=True)
def request_compensation(task: CeleryTask, *, saga_id: str) -> str:
    """Undo a saga whose current step has failed for good: the error callback of every forward chain.

    It may come twice, late, or although nothing failed (a chain whose next message could not be published). So it only
    asks: the log decides, once, under the row's lock. Without a failure in the log the sweep goes on with the saga.
    """
    with retried_on_database_fault(task):
        return together.outcome_of(task.request.id) or _undo_what_failed({saga_id: task.request.id})[saga_id]


def _undo_together(wanted: Sequence[Wanted]) -> Outcomes:
    askers = {one.arguments["saga_id"]: one.task_id for one in wanted}
    answers = _undo_what_failed(askers)
    return {task_id: answers[saga_id] for saga_id, task_id in askers.items()}


together.register(ERROR_CALLBACK, _undo_together)


def _undo_what_failed(askers: Mapping[str, str | None]) -> dict[str, str]:
    """Turn back those of these sagas whose log says that they have failed; returns what was found, by saga.

    ``askers`` are the sagas, with the task that asks for each.
    """
    answers = dict.fromkeys(askers, NO_SUCH_SAGA)
    with runtime.current().database.transaction() as session:
        locked = barrier.locked(session, answers)
        for saga, log in locked:
            with sent_by(askers[saga.id]):
                answers[saga.id] = _undo_if_failed(session, saga, log)
        barrier.write(session, [saga for saga, _ in locked], [])
    for saga_id, answer in answers.items():
        if answer == NO_SUCH_SAGA:
            logger.warning("message for no known saga, dropped", extra={"saga_id": saga_id})
    return answers


def _undo_if_failed(session: Session, saga: SagaInstance, log: barrier.Log) -> str:
    declared = definition(saga.saga_type)
    if declared is None:
        return NO_SUCH_SAGA
    if saga.status not in FORWARD:
        return "nothing to undo"
    failure = _failure_in(saga, log)
    if failure is None:
        return f"{saga.current_step} has not failed"
    turn_back(session, saga, declared.plan(saga.steps), failure)
    return "compensating"


def turn_back(session: Session, saga: SagaInstance, plan: Plan, reason: str) -> None:
    """Close the fence of a locked saga that is not through; its compensations are published after the commit."""
    now = runtime.current().now()
    transitions.turn_back(saga, now, reason)
    to_undo = plan.undoing(_current(saga))
    if to_undo:
        saga.current_step = to_undo[0].name
        _publish_compensations(session, saga, plan)
    else:
        transitions.compensated(saga, now)


def _current(saga: SagaInstance) -> str:
    assert saga.current_step is not None  # every saga that is not through has one
    return saga.current_step


def _publish_forward(session: Session, saga: SagaInstance, plan: Plan) -> None:
    tasks = [step.action.name for step in plan.remaining(_current(saga))]
    after_commit(session, partial(_send, saga.id, tasks, sender(), on_error=ERROR_CALLBACK))


def _publish_compensations(session: Session, saga: SagaInstance, plan: Plan) -> None:
    tasks = [step.compensation.name for step in plan.undoing(_current(saga)) if step.compensation]
    after_commit(session, partial(_send, saga.id, tasks, sender()))


def _send(saga_id: str, tasks: Sequence[str], parent_id: str | None, on_error: str | None = None) -> None:
    not_taken = partial(stop_clock, saga_id)
    send_chain(tasks, saga_id=saga_id, parent_id=parent_id, on_error=on_error, not_taken=not_taken)


def _failure(session: Session, saga: SagaInstance) -> str | None:
    """Return why the current step's action was given up, if the log says that it was."""
    return _failure_in(saga, barrier.logged(session, [saga.id])[saga.id])


def _failure_in(saga: SagaInstance, log: barrier.Log) -> str | None:
    action = log.get((_current(saga), Operation.ACTION))
    failed = action is not None and action.status == StepStatus.FAILED
    return f"{saga.current_step}: {action.error}" if action and failed else None


class Orchestration:
    """Moves the sagas of one declaration from outside; see ``registry.Driver``."""

    def __init__(self, saga: Saga) -> None:
        self.saga = saga
        self.name = saga.name

    def drive(self, session: Session, saga: SagaInstance) -> None:
        """Publish what is left of the chain, in the direction that the row says."""
        plan = self._plan_or_stick(saga)
        if plan is None:
            return
        if saga.status not in FORWARD:
            _publish_compensations(session, saga, plan)
        elif failure := _failure(session, saga):
            turn_back(session, saga, plan, failure)  # its error callback was lost
        else:
            if saga.deadline_at is None and not plan.past_pivot(saga.current_step):
                transitions.start_clock(
                    saga, runtime.current().now(), transitions.timeout_of(plan.step(_current(saga)))
                )
            _publish_forward(session, saga, plan)

    def time_out(self, session: Session, saga: SagaInstance) -> None:
        """Undo what is overdue; past the pivot go on instead."""
        plan = self._plan_or_stick(saga)
        if plan is None:
            return
        if plan.past_pivot(saga.current_step):
            saga.deadline_at = None
            self.drive(session, saga)
        else:
            reason = _failure(session, saga) or f"{saga.current_step}: no result before its deadline"
            turn_back(session, saga, plan, reason)

    def cancel(self, session: Session, saga: SagaInstance) -> bool:
        """Undo the saga for somebody who asked; nothing happens, and False says so, if it is being undone already."""
        if saga.status in {SagaStatus.COMPENSATING, SagaStatus.COMPENSATED}:
            return False
        if saga.status == SagaStatus.STUCK and saga.state == COMPENSATION_STARTED:
            raise Conflict("it is being undone already, and stuck: resume it", status=saga.status)
        plan = self._plan_or_refuse(saga)
        if plan.past_pivot(saga.current_step):
            raise Conflict("too late to cancel: it is past the point of no return", status=saga.status)
        turn_back(session, saga, plan, CANCELLED_ON_REQUEST)
        return True

    def resume(self, session: Session, saga: SagaInstance) -> None:
        """Retry a stuck saga where it stands; drive on one that is unfinished."""
        plan = self._plan_or_refuse(saga)
        if saga.status == SagaStatus.STUCK:
            undoing = saga.state == COMPENSATION_STARTED
            current = plan.step(_current(saga))
            transitions.unstick(saga, runtime.current().now(), transitions.timeout_of(current))
            barrier.reopen(session, saga.id, current.name, Operation.COMPENSATION if undoing else Operation.ACTION)
        self.drive(session, saga)

    def skip(self, session: Session, saga: SagaInstance, statement: Statement) -> None:
        """Take somebody's word that the compensation it is stuck on was done by hand, and go on with the next."""
        plan = self._plan_or_refuse(saga)
        step = plan.step(_current(saga))
        if saga.state != COMPENSATION_STARTED or step.compensation is None:
            raise by_hand.nothing_to_skip(saga)
        if statement.step not in {None, step.name}:
            raise Conflict(f"it is stuck on {step.name}, not on {statement.step}", status=saga.status)
        now = runtime.current().now()
        row = barrier.enter(session, saga.id, step.name, Operation.COMPENSATION, now)
        if row.status != StepStatus.FAILED:
            raise Conflict(f"undoing {step.name} has not been tried yet: resume it", status=saga.status)
        barrier.close_door(session, saga.id, step.name, now, saga.error)
        with by_hand.recording(saga):
            event = invoke_by_hand(step.compensation, session, {**saga.payload, "reason": saga.error})
        if event:
            row.event_id = emit(session, saga.aggregate_id, event, saga_id=saga.id).id
            row.result = dict(event.payload)
        by_hand.note_statement(row, StepStatus.BY_HAND, statement, now)
        transitions.unstick(saga, now, None)
        transitions.undone(saga, plan, step, now)
        if saga.status == SagaStatus.COMPENSATING:
            _publish_compensations(session, saga, plan)

    def _plan_or_refuse(self, saga: SagaInstance) -> Plan:
        try:
            return self.saga.plan(saga.steps)
        except UnknownStep as error:
            raise Conflict(f"no code deployed here can move it: {error}", status=saga.status) from error

    def _plan_or_stick(self, saga: SagaInstance) -> Plan | None:
        try:
            return self.saga.plan(saga.steps)
        except UnknownStep as error:
            transitions.stick(saga, runtime.current().now(), str(error))
            return None
