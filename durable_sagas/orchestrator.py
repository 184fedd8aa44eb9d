"""The orchestrator: run a saga as a Celery chain whose error callback starts compensation in reverse order.

Messages are not trusted. The chain, the error callback and the compensations only trigger a check; the saga's row,
while locked, determines what is left to do.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from durable_sagas import manual_completion, saga_log
from durable_sagas.database import after_commit, current
from durable_sagas.decisions import Check, Drop, Ignore, PutBack, QueueState, StepRef, decide_step
from durable_sagas.definition import (
    COMPENSATION_STARTED,
    FORWARD,
    Command,
    Operation,
    Plan,
    Saga,
    SagaStatus,
    StepStatus,
    UnknownStep,
)
from durable_sagas.deliveries import Attempt, Delivery, Dismissal, dismiss
from durable_sagas.engine import CeleryTask, Engine
from durable_sagas.errors import Conflict
from durable_sagas.events import Events, NewEvent
from durable_sagas.execution import leave_to_others, record_end, retried_on_database_fault
from durable_sagas.ids import new_id
from durable_sagas.manual_completion import ManualCompletion
from durable_sagas.messages import Event
from durable_sagas.messaging.batching import BatchedMessage, Results
from durable_sagas.messaging.publisher import as_task, current_task_id
from durable_sagas.models import SagaInstance, SagaStep
from durable_sagas.outages import suspend_deadline
from durable_sagas.saga_log import SagaRecord

logger = logging.getLogger(__name__)

NO_SUCH_SAGA = "no such saga"
CANCELLED_ON_REQUEST = "cancelled on request"
UNKNOWN_HERE = "this process does not declare the saga's steps"


class Orchestrator:
    """Runs the orchestrated sagas of one binding."""

    def __init__(self, engine: Engine, events: Events) -> None:
        self.engine = engine
        self.events = events
        self.state_machine = engine.state_machine
        self.error_callback = f"{engine.coordinator}.request_compensation"
        self._declare_error_callback()

    def plan_of(self, saga: SagaInstance) -> Plan | None:
        """Return a saga's plan, or None if it is not orchestrated or a step is unknown in this process."""
        driver = self.engine.drivers.get(saga.saga_type)
        return driver.plan(saga) if isinstance(driver, OrchestratedSaga) and driver.can_drive(saga) else None

    def _declare_error_callback(self) -> None:
        # the log decides, not Celery's count: retried while the database is unavailable, or left to another version
        @self.engine.task(self.error_callback, bind=True, max_retries=None)
        def request_compensation(task: CeleryTask, *, saga_id: str) -> str:
            """Start compensation of a saga whose current step has failed for good.

            This is the error callback of every forward chain. It may arrive twice, late, or although nothing failed (a
            chain whose next message could not be published). So it is only a request: the log decides, once, under the
            row's lock. Without a failure in the log the sweep re-drives the saga.
            """
            request = BatchedMessage(str(task.request.id), {"saga_id": saga_id})
            with retried_on_database_fault(task):
                answer = self.engine.batches.results.pop(request.task_id, None)
                answer = answer or self._compensate_if_failed([request])[request.task_id]
            if answer == UNKNOWN_HERE:
                leave_to_others(task, answer)
            return str(answer)

        self.engine.batches.register(self.error_callback, self._compensate_if_failed)

    def _compensate_if_failed(self, messages: Sequence[BatchedMessage]) -> Results:
        """Start compensation of those of the sagas that have failed according to their log."""
        requests = {one.arguments["saga_id"]: one.task_id for one in messages}
        answers = dict.fromkeys(requests, NO_SUCH_SAGA)
        with self.engine.database.transaction() as session:
            records = saga_log.lock_all(session, answers)
            for record in records:
                with as_task(requests[record.saga.id]):
                    answers[record.saga.id] = self._start_if_failed(session, record)
            saga_log.write(session, records)
        for saga_id, answer in answers.items():
            if answer == NO_SUCH_SAGA:
                logger.warning("message for no known saga, dropped", extra={"saga_id": saga_id})
        return {requests[saga_id]: answer for saga_id, answer in answers.items()}

    def _start_if_failed(self, session: Session, record: SagaRecord) -> str:
        saga = record.saga
        if not saga.steps:
            return NO_SUCH_SAGA  # choreographed
        if saga.status not in FORWARD:
            return "nothing to compensate"
        failure = failure_of(record)
        if failure is None:
            return f"{saga.current_step} has not failed"
        plan = self.plan_of(saga)
        if plan is None:
            return UNKNOWN_HERE
        self.start_compensation(session, record, plan, failure)
        return "compensating"

    def start_compensation(self, session: Session, record: SagaRecord, plan: Plan, reason: str) -> None:
        """Start compensation of a locked, unfinished saga; its compensations are published after the commit."""
        saga, now = record.saga, self.engine.database.now()
        self.state_machine.start_compensation(saga, now, reason)
        to_compensate = plan.to_compensate(current_step(saga))
        if not to_compensate:
            self.state_machine.complete_compensation(saga, now)
            return
        saga.current_step = to_compensate[0].name
        self._skip_if_undeclared(record, plan)
        if saga.status == SagaStatus.COMPENSATING:
            self.publish_compensations(session, saga, plan)

    def _skip_if_undeclared(self, record: SagaRecord, plan: Plan) -> None:
        """Skip the compensation of a step that only other code declares, if the log shows nothing to compensate.

        Otherwise a saga that starts compensation at a step which no deployed code declares any more would wait for that
        code.
        """
        saga = record.saga
        step = plan.step(current_step(saga))
        if step.name not in plan.undeclared or step.compensation is None or step.compensation.unconditional:
            return
        now = self.engine.database.now()
        action = record.block_action(step.name, now)
        if action.status != StepStatus.COMPLETED:
            entry = record.enter(step.name, Operation.COMPENSATION, now)
            record_end(self.engine, saga, entry, StepStatus.SKIPPED, None, now, now)
            self.state_machine.step_compensated(saga, plan, step.name, now)

    def publish_forward(self, session: Session, saga: SagaInstance, plan: Plan) -> None:
        """Publish the actions from the current step on, after the commit."""
        tasks = [step.action.name for step in plan.from_step(current_step(saga))]
        self.state_machine.wait_for(saga, tasks[0], self.engine.database.now())
        send = partial(self._send, saga.id, tasks, current_task_id(), on_error=self.error_callback)
        after_commit(session, send)

    def publish_compensations(self, session: Session, saga: SagaInstance, plan: Plan) -> None:
        """Publish the compensations from the current step backwards, after the commit."""
        tasks = [step.compensation.name for step in plan.to_compensate(current_step(saga)) if step.compensation]
        self.state_machine.wait_for(saga, tasks[0], self.engine.database.now())
        after_commit(session, partial(self._send, saga.id, tasks, current_task_id()))

    def _send(self, saga_id: str, tasks: Sequence[str], parent_id: str | None, on_error: str | None = None) -> None:
        self.engine.publisher.send_chain(
            tasks,
            saga_id=saga_id,
            parent_id=parent_id,
            on_error=on_error,
            on_undelivered=partial(suspend_deadline, self.engine, saga_id),
        )

    def append_results(
        self, session: Session, results: Sequence[tuple[SagaInstance, SagaStep, Event]], now: datetime
    ) -> None:
        """Write the events that operations resulted in, and note them on the operations' entries."""
        new = [NewEvent(saga.aggregate_id, saga.id, event, entry.task_id) for saga, entry, event in results]
        for (_, entry, event), stored in zip(results, self.events.emit_all(session, new, now), strict=True):
            entry.event_id = stored.id
            entry.result = dict(event.payload)


def current_step(saga: SagaInstance) -> str:
    """Return the current step of an unfinished saga."""
    assert saga.current_step is not None  # every unfinished saga has one
    return saga.current_step


def failure_of(record: SagaRecord) -> str | None:
    """Return why the current step's action failed for good, or None if the log has no such failure."""
    action = record.log.get((current_step(record.saga), Operation.ACTION))
    failed = action is not None and action.status == StepStatus.FAILED
    return f"{record.saga.current_step}: {action.error}" if action and failed else None


class CommandDeliveries:
    """The deliveries of one command of orchestrated sagas. Implements ``deliveries.PatternRules``."""

    def __init__(self, orchestrator: Orchestrator, command: Command) -> None:
        self.orchestrator = orchestrator
        self.command = command
        self.task_name = command.name
        self.calls_gateway = command.call is not None

    def decide(self, session: Session, found: Sequence[tuple[Delivery, SagaRecord]]) -> list[Attempt | Dismissal]:  # noqa: ARG002  (the pattern's)
        """Return what each delivery means."""
        return [self._decide(delivery, record) for delivery, record in found]

    def _decide(self, delivery: Delivery, record: SagaRecord) -> Attempt | Dismissal:
        saga = record.saga
        try:
            ref = self._step_ref(saga)
        except UnknownStep as error:
            return dismiss(delivery, PutBack(str(error)), self.command.short_name)
        if ref is None:
            logger.warning("message for no known step, dropped", extra={"step": self.command.name})
            return dismiss(delivery, Drop("no such saga or step"), self.command.short_name)
        irreversible = ref.plan.past_pivot(ref.step.name)
        verdict = decide_step(ref, self.command, record.log, delivery.task_id)
        if isinstance(verdict, Drop | Ignore | PutBack):
            return dismiss(delivery, verdict, ref.step.name)
        return Attempt(
            delivery,
            record,
            verdict,
            self.command,
            ref.step.name,
            ref.operation,
            data=saga.payload,
            policy=ref.step.policy if ref.operation is Operation.ACTION else ref.step.compensation_retry,
            irreversible=irreversible,
            plan=ref.plan,
        )

    def _step_ref(self, saga: SagaInstance) -> StepRef | None:
        """Return the step of a saga that the command implements, or None. Raises UnknownStep."""
        driver = self.orchestrator.engine.drivers.get(saga.saga_type)
        declared = driver.definition if isinstance(driver, OrchestratedSaga) else None
        found = declared.find(self.command) if declared else None
        if declared is None or found is None or found[0].name not in saga.steps:
            if _is_outlined(saga, self.command):
                raise UnknownStep(f"saga {saga.saga_type} has {self.command.name} in another version of the code only")
            return None
        return StepRef(saga, declared.plan(saga.steps, saga.outline), *found)

    def deadline(self, attempt: Attempt, started_at: datetime) -> datetime | None:
        """Return when the step is overdue; a compensation never is."""
        if attempt.plan is None or attempt.operation is Operation.COMPENSATION:
            return None
        timeout = self.orchestrator.state_machine.timeout_of(attempt.plan.step(attempt.step))
        return started_at + timedelta(seconds=timeout)

    def advance(self, attempt: Attempt, now: datetime) -> None:
        """Make the next step current, or end the saga."""
        assert attempt.plan is not None
        machine = self.orchestrator.state_machine
        step_done = machine.advance if attempt.operation is Operation.ACTION else machine.step_compensated
        step_done(attempt.saga, attempt.plan, attempt.step, now)

    def publish(self, session: Session, attempts: Sequence[Attempt], now: datetime) -> None:
        """Write the events of attempts."""
        results = [(one.saga, one.entry, one.event) for one in attempts if one.entry and one.event]
        self.orchestrator.append_results(session, results, now)

    def republish(self, session: Session, attempt: Attempt, entry: SagaStep) -> None:
        """Do nothing: the rest of the chain is sent by the task."""


def _is_outlined(saga: SagaInstance, command: Command) -> bool:
    """Return whether a saga's own outline uses a command, whatever is declared here."""
    used = (name for step in saga.outline or () for name in (step["action"], step.get("compensation")))
    return command.name in used


class OrchestratedSaga:
    """The orchestrated sagas of one declaration. Implements ``registry.Driver``."""

    def __init__(self, orchestrator: Orchestrator, definition: Saga) -> None:
        self.orchestrator = orchestrator
        self.state_machine = orchestrator.state_machine
        self.definition = definition
        self.name = definition.name
        self.steps = definition.steps
        self.step_names = definition.step_names

    def start(self, session: Session, aggregate_id: str, payload: Mapping[str, Any]) -> SagaInstance:
        """Write a new saga in the caller's transaction; its first message is published after the commit.

        ``payload`` is plain JSON: the data that the steps' messages are built from. The caller's commit is the commit:
        if it rolls back, there is no saga and no message.

        Raises ValueError (pydantic's ValidationError) if a step's message cannot be built from the payload.
        """
        self.definition.validate(payload)
        saga, engine = self.definition, self.orchestrator.engine
        row = SagaInstance(
            id=new_id(),
            saga_type=saga.name,
            aggregate_id=aggregate_id,
            steps=saga.step_names,
            outline=saga.outline,
            current_step=saga.step_names[0],
            payload=dict(payload),
        )
        with current(session):
            with engine.tracer.start_saga_span(session, row):
                timeout = self.state_machine.timeout_of(saga.steps[0])
                self.state_machine.begin(row, engine.database.now(), timeout)
                self.orchestrator.publish_forward(session, row, saga.plan(row.steps))
            saga_log.insert_new(session, [SagaRecord(row)])
        return row

    def can_drive(self, saga: SagaInstance) -> bool:
        """Return whether every step of the saga is declared here, or outlined on its row."""
        try:
            self.plan(saga)
        except UnknownStep:
            return False
        return True

    def plan(self, saga: SagaInstance) -> Plan:
        """Return the saga's plan. Raises UnknownStep."""
        return self.definition.plan(saga.steps, saga.outline)

    def timeout(self, saga: SagaInstance) -> float:
        """Return the timeout of the current step."""
        current = [step for step in self.plan(saga).steps if step.name == saga.current_step]
        return max(
            map(self.state_machine.timeout_of, current), default=self.orchestrator.engine.options.step_timeout_seconds
        )

    def check(
        self,
        session: Session,  # noqa: ARG002  (a driver's)
        record: SagaRecord,  # noqa: ARG002
        queues: Mapping[str, QueueState],  # noqa: ARG002
        found: Check,
    ) -> Check:
        """Return what was found: the row says all."""
        return found

    def drive(self, session: Session, record: SagaRecord) -> None:
        """Publish the rest of the chain, in the direction given by the row."""
        saga = record.saga
        plan, now = self.plan(saga), self.orchestrator.engine.database.now()
        has_deadline = saga.status in FORWARD and not plan.past_pivot(saga.current_step)
        undeclared = saga.current_step in plan.undeclared
        if not undeclared:
            saga.unsupported_since = None
        if undeclared and not has_deadline and self.state_machine.is_abandoned(saga, now):
            self.state_machine.mark_stuck(saga, now, f"{saga.current_step}: no running process declares this step")
        elif saga.status not in FORWARD:
            self.orchestrator.publish_compensations(session, saga, plan)
        elif failure := failure_of(record):
            self.orchestrator.start_compensation(session, record, plan, failure)  # its error callback was lost
        else:
            if saga.deadline_at is None and has_deadline:
                self.state_machine.restart_deadline(
                    saga, now, self.state_machine.timeout_of(plan.step(current_step(saga)))
                )
            self.orchestrator.publish_forward(session, saga, plan)

    def time_out(self, session: Session, record: SagaRecord) -> None:
        """Start compensation of an overdue saga; past the pivot re-drive it instead."""
        saga = record.saga
        plan = self.plan(saga)
        if plan.past_pivot(saga.current_step):
            saga.deadline_at = None
            self.drive(session, record)
        else:
            reason = failure_of(record) or f"{saga.current_step}: no result before its deadline"
            self.orchestrator.start_compensation(session, record, plan, reason)

    def cancel(self, session: Session, record: SagaRecord) -> bool:
        """Start compensation on request. Raises Conflict past the pivot."""
        saga = record.saga
        plan = self.plan(saga)
        if plan.past_pivot(saga.current_step):
            raise Conflict("too late to cancel: it is past the point of no return", status=saga.status)
        self.orchestrator.start_compensation(session, record, plan, CANCELLED_ON_REQUEST)
        return True

    def resume(self, session: Session, record: SagaRecord) -> None:
        """Retry a stuck saga's current step, or re-drive an unfinished saga."""
        saga = record.saga
        plan = self.plan(saga)
        if saga.status == SagaStatus.STUCK:
            current = plan.step(current_step(saga))
            backward = saga.state == COMPENSATION_STARTED
            self.state_machine.resume(
                saga, self.orchestrator.engine.database.now(), self.state_machine.timeout_of(current)
            )
            record.reset(current.name, Operation.COMPENSATION if backward else Operation.ACTION)
        self.drive(session, record)

    def skip(self, session: Session, record: SagaRecord, report: ManualCompletion) -> None:
        """Record the stuck compensation as completed manually, and continue with the next."""
        saga = record.saga
        plan = self.plan(saga)
        step = plan.step(current_step(saga))
        if step.name in plan.undeclared:
            raise Conflict(f"{UNKNOWN_HERE}: ask one that does", status=saga.status)
        if saga.state != COMPENSATION_STARTED or step.compensation is None:
            raise manual_completion.nothing_to_skip(saga)
        if report.step not in {None, step.name}:
            raise Conflict(f"it is stuck on {step.name}, not on {report.step}", status=saga.status)
        entry = record.log.get((step.name, Operation.COMPENSATION))
        if entry is None or entry.status != StepStatus.FAILED:
            raise Conflict(f"the compensation of {step.name} has not been tried yet: resume it", status=saga.status)
        now = self.orchestrator.engine.database.now()
        record.block_action(step.name, now)
        with manual_completion.recording(saga):
            event = manual_completion.call_handler(step.compensation, session, saga.payload, saga.error)
        if event:
            self.orchestrator.append_results(session, [(saga, entry, event)], now)
        manual_completion.record_completion(entry, StepStatus.BY_HAND, report, now)
        self.state_machine.resume(saga, now, None)
        self.state_machine.step_compensated(saga, plan, step.name, now)
        if saga.status == SagaStatus.COMPENSATING:
            self.orchestrator.publish_compensations(session, saga, plan)
