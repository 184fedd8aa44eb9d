"""The transitions of a saga's status and state. The patterns also set its current step, and clear its deadline.

Each is called with the row locked, in a session, and leaves the commit to the caller.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from durable_sagas.definition import (
    COMPENSATION_STARTED,
    COMPLETED,
    FAILED,
    STARTED,
    TERMINAL,
    Plan,
    SagaStatus,
    Step,
)
from durable_sagas.models import SagaInstance
from durable_sagas.options import Options
from durable_sagas.signals import Signals, SignalType

ABANDONED_AFTER_SECONDS = 300.0
"""A saga that no sweep could drive for this long may be marked stuck, by a sweep of any version.

It is longer than a rolling deploy needs to replace the processes of a service. Deadlines are independent of it.
"""


class StateMachine:
    """The transitions, with the binding's options and signals."""

    def __init__(self, signals: Signals, options: Callable[[], Options], queue_of: Callable[[str], str]) -> None:
        self.signals = signals
        self._options = options
        self._queue_of = queue_of

    def begin(self, saga: SagaInstance, now: datetime, timeout: float) -> None:
        """Initialize a new row's status, state and deadline (``timeout`` in seconds)."""
        saga.status = SagaStatus.PENDING
        saga.state_history = []
        saga.redrives = 0
        saga.created_at = now
        self.enter_state(saga, STARTED, now)
        self.touch(saga, now, timeout)
        self.signals.send_saga(SignalType.SAGA_STARTED, saga)

    def enter_state(self, saga: SagaInstance, state: str, now: datetime) -> None:
        """Record that the saga has entered a state."""
        saga.state = state
        saga.state_history = [*saga.state_history, {"state": state, "at": now.isoformat()}]

    def advance(self, saga: SagaInstance, plan: Plan, step: str, now: datetime) -> None:
        """Record that a step's action is completed, and set the deadline of the next step, or complete the saga."""
        done, *following = plan.from_step(step)
        if done.milestone:
            self.enter_state(saga, done.milestone, now)
        if not following:
            self.complete(saga, now)
            return
        saga.status = SagaStatus.RUNNING
        saga.current_step = following[0].name
        self.touch(saga, now, self.timeout_of(following[0]))
        self.wait_for(saga, following[0].action.name, now)

    def start_compensation(self, saga: SagaInstance, now: datetime, reason: str) -> None:
        """Reject actions from now on, and compensate those that are completed."""
        saga.status = SagaStatus.COMPENSATING
        saga.stuck_reason = None
        saga.error = reason
        self.enter_state(saga, COMPENSATION_STARTED, now)
        self.touch(saga, now, None)
        self.signals.send_saga(SignalType.SAGA_TURNED_BACK, saga, reason=reason)

    def step_compensated(self, saga: SagaInstance, plan: Plan, step: str, now: datetime) -> None:
        """Record that a step is compensated; if it was the last one, the saga is compensated."""
        earlier = plan.to_compensate(step)[1:]
        if not earlier:
            self.complete_compensation(saga, now)
            return
        saga.current_step = earlier[0].name
        self.touch(saga, now, None)
        if earlier[0].compensation:
            self.wait_for(saga, earlier[0].compensation.name, now)

    def complete(self, saga: SagaInstance, now: datetime) -> None:
        """Complete the saga."""
        self._end(saga, now, SagaStatus.COMPLETED, COMPLETED, SignalType.SAGA_COMPLETED)

    def complete_compensation(self, saga: SagaInstance, now: datetime) -> None:
        """End the saga as compensated."""
        self._end(saga, now, SagaStatus.COMPENSATED, FAILED, SignalType.SAGA_COMPENSATED)

    def mark_stuck(self, saga: SagaInstance, now: datetime, reason: str, step: str | None = None) -> None:
        """Stop the saga until an operator resumes it; ``current_step`` and ``state`` keep its position.

        ``step`` is the step that is stuck, for a choreography, which has no current step. A saga that has ended is left
        unchanged: a late redelivery failed to repeat what was already done.
        """
        if saga.status in TERMINAL:
            return
        saga.status = SagaStatus.STUCK
        saga.current_step = step or saga.current_step
        saga.stuck_reason = reason
        saga.deadline_at = saga.wake_at = saga.queue = saga.ready_at = None
        saga.updated_at = now
        self.signals.send_saga(SignalType.SAGA_STUCK, saga, reason=reason)

    def is_abandoned(self, saga: SagaInstance, now: datetime) -> bool:
        """Record that this process cannot drive a saga; return whether no process has been able to for too long.

        The time since its last progress is no measure: the saga may have waited for a gateway much longer.
        """
        saga.unsupported_since = saga.unsupported_since or now
        return now - saga.unsupported_since > timedelta(seconds=ABANDONED_AFTER_SECONDS)

    def resume(self, saga: SagaInstance, now: datetime, timeout: float | None) -> None:
        """Resume a stuck saga in its direction; ``timeout`` is that of its current step."""
        compensating = saga.state == COMPENSATION_STARTED
        saga.status = SagaStatus.COMPENSATING if compensating else SagaStatus.RUNNING
        saga.stuck_reason = None
        self.touch(saga, now, None if compensating else timeout)
        self.signals.send_saga(SignalType.SAGA_RESUMED, saga)

    def touch(self, saga: SagaInstance, now: datetime, timeout: float | None) -> None:
        """Record progress: set the deadline (``timeout`` seconds from now, None for none) and the next check."""
        saga.queue = saga.ready_at = None
        saga.updated_at = now
        saga.redrives = 0
        saga.unsupported_since = None
        saga.deadline_at = now + timedelta(seconds=timeout) if timeout is not None else None
        saga.wake_at = self.next_check_at(saga, now)

    def wait_for(self, saga: SagaInstance, task_name: str, ready_at: datetime) -> None:
        """Record that the saga waits for a task, whose message is sent, or to be executed, at ``ready_at``."""
        saga.queue = self._queue_of(task_name)
        saga.ready_at = ready_at

    def wait_for_retry(
        self, saga: SagaInstance, task_name: str, now: datetime, wait: float, deadline: datetime | None
    ) -> None:
        """Record that a task is retried in ``wait`` seconds; a deadline is not before ``deadline``."""
        self.wait_for(saga, task_name, now + timedelta(seconds=wait))
        if saga.deadline_at and deadline:
            saga.deadline_at = max(saga.deadline_at, deadline)
        saga.wake_at = self.next_check_at(saga, now, wait)

    def suspend_deadline(self, saga: SagaInstance, now: datetime) -> None:
        """Suspend the deadline while the broker accepts no messages; the re-drive restarts it."""
        saga.deadline_at = saga.queue = saga.ready_at = None
        # the next sweep tries first; then ever more rarely, or during an outage the sweep would do nothing else
        saga.wake_at = self.next_check_at(saga, now) if saga.redrives else now

    def restart_deadline(self, saga: SagaInstance, now: datetime, timeout: float) -> None:
        """Set a deadline, ``timeout`` seconds from now, without counting this as progress."""
        saga.deadline_at = now + timedelta(seconds=timeout)
        saga.wake_at = self.next_check_at(saga, now)

    def next_check_at(self, saga: SagaInstance, now: datetime, wait: float = 0) -> datetime:
        """Return when the sweep should check a saga again that waits ``wait`` seconds by itself.

        Each re-drive without progress doubles the interval, so that the sweep does not lengthen a long queue.
        """
        stall = self._options().stall_seconds * 2 ** min(saga.redrives, 5)
        look = now + timedelta(seconds=wait + stall)
        return min(look, saga.deadline_at) if saga.deadline_at and saga.deadline_at > now else look

    def timeout_of(self, step: Step) -> float:
        """Return a step's timeout in seconds."""
        return step.timeout if step.timeout is not None else self._options().step_timeout_seconds

    def _end(self, saga: SagaInstance, now: datetime, status: SagaStatus, state: str, signal: SignalType) -> None:
        self.enter_state(saga, state, now)
        saga.status = status
        saga.current_step = saga.stuck_reason = None
        saga.deadline_at = saga.wake_at = saga.queue = saga.ready_at = None
        saga.updated_at = now
        self.signals.send_saga(signal, saga, at=now)
