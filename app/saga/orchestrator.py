"""The orchestrator: run a saga as a Celery chain whose error callback starts compensation in reverse order.

Messages are not trusted. The chain, the error callback and the compensations only trigger a check; the saga's row,
while locked, determines what is left to do.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from app import runtime
from app.celery import app
from app.database import after_commit
from app.errors import Conflict
from app.events import emit
from app.ids import new_id
from app.messaging import batching
from app.messaging.batching import Outcomes, Wanted
from app.messaging.publisher import send_chain, sender, sent_by
from app.observability import tracing
from app.saga import barrier, manual_completion, registry, state_machine
from app.saga.attempts import CeleryTask, finish, leave_to_others, record_manual_completion, retried_on_database_fault
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
from app.saga.manual_completion import ManualCompletion
from app.saga.models import SagaInstance
from app.saga.outage import suspend_deadline

logger = logging.getLogger(__name__)

ERROR_CALLBACK = "orchestrator.request_compensation"
NO_SUCH_SAGA = "no such saga"
CANCELLED_ON_REQUEST = "cancelled on request"
UNKNOWN_HERE = "this process does not declare the saga's steps"


def orchestrated(saga: Saga) -> Saga:
    """Register a declared saga with the orchestrator of this process; return it."""
    registry.register(Orchestration(saga))
    return saga


def definition(saga_type: str) -> Saga | None:
    """Return the declared saga of this name, or None if it is not an orchestrated one."""
    driver = registry.named(saga_type)
    return driver.saga if isinstance(driver, Orchestration) else None


def plan_of(saga: SagaInstance) -> Plan | None:
    """Return a saga's plan, or None if it is not orchestrated or a step is unknown in this process."""
    driver = registry.driver_of(saga)
    return driver.plan(saga) if isinstance(driver, Orchestration) else None


def start(session: Session, saga: Saga, aggregate_id: str, payload: Mapping[str, Any]) -> SagaInstance:
    """Write a new saga in the caller's transaction; its chain is published after the commit.

    ``payload`` is plain JSON: the data that the steps' messages are built from.
    """
    row = begin(session, saga, aggregate_id, payload)
    barrier.write_new(session, [row])
    return row


def begin(session: Session, saga: Saga, aggregate_id: str, payload: Mapping[str, Any]) -> SagaInstance:
    """Return a new saga like ``start``, for the caller to write with others: see ``barrier.write_new``."""
    now = runtime.current().now()
    first = saga.steps[0]
    row = SagaInstance(
        id=new_id(),
        saga_type=saga.name,
        aggregate_id=aggregate_id,
        steps=saga.step_names,
        outline=saga.outline,
        current_step=first.name,
        payload=dict(payload),
    )
    with tracing.beginning(session, row):
        state_machine.begin(row, now, state_machine.timeout_of(first))
        _publish_forward(session, row, saga.plan(row.steps))
    return row


# the log decides, not Celery's count: retried while the database is unavailable, or left to another version
@app.task(name=ERROR_CALLBACK, bind=True, max_retries=None)
def request_compensation(task: CeleryTask, *, saga_id: str) -> str:
    """Start compensation of a saga whose current step has failed for good: the error callback of every forward chain.

    It may arrive twice, late, or although nothing failed (a chain whose next message could not be published). So it is
    only a request: the log decides, once, under the row's lock. Without a failure in the log the sweep re-drives the
    saga.
    """
    with retried_on_database_fault(task):
        answer: str = batching.outcome_of(task.request.id) or _undo_what_failed({saga_id: task.request.id})[saga_id]
    if answer == UNKNOWN_HERE:
        leave_to_others(task, answer)
    return answer


def _undo_together(wanted: Sequence[Wanted]) -> Outcomes:
    askers = {one.arguments["saga_id"]: one.task_id for one in wanted}
    answers = _undo_what_failed(askers)
    return {task_id: answers[saga_id] for saga_id, task_id in askers.items()}


batching.register(ERROR_CALLBACK, _undo_together)


def _undo_what_failed(askers: Mapping[str, str | None]) -> dict[str, str]:
    """Start compensation of those of these sagas that have failed according to their log; return the results by saga.

    ``askers`` maps each saga to the task that requests it.
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
    if not saga.steps:
        return NO_SUCH_SAGA  # choreographed
    if saga.status not in FORWARD:
        return "nothing to undo"
    failure = _failure_in(saga, log)
    if failure is None:
        return f"{saga.current_step} has not failed"
    plan = plan_of(saga)
    if plan is None:
        return UNKNOWN_HERE
    start_compensation(session, saga, plan, failure)
    return "compensating"


def start_compensation(session: Session, saga: SagaInstance, plan: Plan, reason: str) -> None:
    """Start compensation of a locked, unfinished saga; its compensations are published after the commit."""
    now = runtime.current().now()
    state_machine.start_compensation(saga, now, reason)
    to_undo = plan.undoing(_current(saga))
    if not to_undo:
        state_machine.complete_compensation(saga, now)
        return
    saga.current_step = to_undo[0].name
    _skip_if_undeclared(session, saga, plan)
    if saga.status == SagaStatus.COMPENSATING:
        _publish_compensations(session, saga, plan)


def _skip_if_undeclared(session: Session, saga: SagaInstance, plan: Plan) -> None:
    """Skip the compensation of a step that only other code declares, if the log shows nothing to compensate.

    Otherwise a saga that starts compensation at a step which no deployed code declares any more would wait for that
    code.
    """
    step = plan.step(_current(saga))
    if step.name not in plan.undeclared or step.compensation is None or step.compensation.unconditional:
        return
    now = runtime.current().now()
    action = barrier.block_action(session, saga.id, step.name, now, saga.error)
    if action.status != StepStatus.COMPLETED:
        row = barrier.enter(session, saga.id, step.name, Operation.COMPENSATION, now)
        finish(saga, row, StepStatus.SKIPPED, None, now, now)
        state_machine.step_compensated(saga, plan, step, now)


def _current(saga: SagaInstance) -> str:
    assert saga.current_step is not None  # every unfinished saga has one
    return saga.current_step


def _publish_forward(session: Session, saga: SagaInstance, plan: Plan) -> None:
    tasks = [step.action.name for step in plan.remaining(_current(saga))]
    after_commit(session, partial(_send, saga.id, tasks, sender(), on_error=ERROR_CALLBACK))


def _publish_compensations(session: Session, saga: SagaInstance, plan: Plan) -> None:
    tasks = [step.compensation.name for step in plan.undoing(_current(saga)) if step.compensation]
    after_commit(session, partial(_send, saga.id, tasks, sender()))


def _send(saga_id: str, tasks: Sequence[str], parent_id: str | None, on_error: str | None = None) -> None:
    on_undelivered = partial(suspend_deadline, saga_id)
    send_chain(tasks, saga_id=saga_id, parent_id=parent_id, on_error=on_error, on_undelivered=on_undelivered)


def _failure(session: Session, saga: SagaInstance) -> str | None:
    """Return why the current step's action failed for good, or None if the log has no such failure."""
    return _failure_in(saga, barrier.logged(session, [saga.id])[saga.id])


def _failure_in(saga: SagaInstance, log: barrier.Log) -> str | None:
    action = log.get((_current(saga), Operation.ACTION))
    failed = action is not None and action.status == StepStatus.FAILED
    return f"{saga.current_step}: {action.error}" if action and failed else None


class Orchestration:
    """Drives the sagas of one declaration; see ``registry.Driver``."""

    def __init__(self, saga: Saga) -> None:
        self.saga = saga
        self.name = saga.name

    def can_drive(self, saga: SagaInstance) -> bool:
        """Return whether every step of the saga is declared here, or outlined on its row."""
        try:
            self.plan(saga)
        except UnknownStep:
            return False
        return True

    def plan(self, saga: SagaInstance) -> Plan:
        """Return the saga's plan. Raises UnknownStep."""
        return self.saga.plan(saga.steps, saga.outline)

    def drive(self, session: Session, saga: SagaInstance) -> None:
        """Publish the rest of the chain, in the direction given by the row."""
        plan, now = self.plan(saga), runtime.current().now()
        has_deadline = saga.status in FORWARD and not plan.past_pivot(saga.current_step)
        undeclared = saga.current_step in plan.undeclared
        if not undeclared:
            saga.unsupported_since = None
        if undeclared and not has_deadline and state_machine.is_abandoned(saga, now):
            state_machine.mark_stuck(saga, now, f"{saga.current_step}: no running process declares this step")
        elif saga.status not in FORWARD:
            _publish_compensations(session, saga, plan)
        elif failure := _failure(session, saga):
            start_compensation(session, saga, plan, failure)  # its error callback was lost
        else:
            if saga.deadline_at is None and has_deadline:
                state_machine.restart_deadline(saga, now, state_machine.timeout_of(plan.step(_current(saga))))
            _publish_forward(session, saga, plan)

    def time_out(self, session: Session, saga: SagaInstance) -> None:
        """Start compensation of an overdue saga; past the pivot re-drive it instead."""
        plan = self.plan(saga)
        if plan.past_pivot(saga.current_step):
            saga.deadline_at = None
            self.drive(session, saga)
        else:
            reason = _failure(session, saga) or f"{saga.current_step}: no result before its deadline"
            start_compensation(session, saga, plan, reason)

    def cancel(self, session: Session, saga: SagaInstance) -> bool:
        """Start compensation on request; return False, without any effect, if it has started already.

        Raises Conflict past the pivot, and if the saga is stuck while compensating.
        """
        if saga.status in {SagaStatus.COMPENSATING, SagaStatus.COMPENSATED}:
            return False
        if saga.status == SagaStatus.STUCK and saga.state == COMPENSATION_STARTED:
            raise Conflict("it is being undone already, and stuck: resume it", status=saga.status)
        plan = self.plan(saga)
        if plan.past_pivot(saga.current_step):
            raise Conflict("too late to cancel: it is past the point of no return", status=saga.status)
        start_compensation(session, saga, plan, CANCELLED_ON_REQUEST)
        return True

    def resume(self, session: Session, saga: SagaInstance) -> None:
        """Retry a stuck saga's current step, or re-drive an unfinished saga."""
        plan = self.plan(saga)
        if saga.status == SagaStatus.STUCK:
            undoing = saga.state == COMPENSATION_STARTED
            current = plan.step(_current(saga))
            state_machine.unstick(saga, runtime.current().now(), state_machine.timeout_of(current))
            barrier.reopen(session, saga.id, current.name, Operation.COMPENSATION if undoing else Operation.ACTION)
        self.drive(session, saga)

    def skip(self, session: Session, saga: SagaInstance, statement: ManualCompletion) -> None:
        """Record the stuck compensation as completed manually, and continue with the next."""
        plan = self.plan(saga)
        step = plan.step(_current(saga))
        if step.name in plan.undeclared:
            raise Conflict(f"{UNKNOWN_HERE}: ask one that does", status=saga.status)
        if saga.state != COMPENSATION_STARTED or step.compensation is None:
            raise manual_completion.nothing_to_skip(saga)
        if statement.step not in {None, step.name}:
            raise Conflict(f"it is stuck on {step.name}, not on {statement.step}", status=saga.status)
        now = runtime.current().now()
        row = barrier.enter(session, saga.id, step.name, Operation.COMPENSATION, now)
        if row.status != StepStatus.FAILED:
            raise Conflict(f"undoing {step.name} has not been tried yet: resume it", status=saga.status)
        barrier.block_action(session, saga.id, step.name, now, saga.error)
        with manual_completion.recording(saga):
            event = record_manual_completion(step.compensation, session, {**saga.payload, "reason": saga.error})
        if event:
            row.event_id = emit(session, saga.aggregate_id, event, saga_id=saga.id).id
            row.result = dict(event.payload)
        manual_completion.record_completion(row, StepStatus.BY_HAND, statement, now)
        state_machine.unstick(saga, now, None)
        state_machine.step_compensated(saga, plan, step, now)
        if saga.status == SagaStatus.COMPENSATING:
            _publish_compensations(session, saga, plan)
