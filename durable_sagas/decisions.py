"""Decide what the delivery of a message means, from the saga's row and its log: pure functions, without any effect.

``decide_step`` serves orchestrated sagas, where the saga's row says which step may run. ``decide_reaction`` serves
choreographed ones, where only the log of the operation itself counts. ``decide_failure`` returns what follows from the
last failed attempt, in both.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any
from uuid import UUID

from durable_sagas.definition import (
    FORWARD,
    Command,
    Operation,
    Plan,
    Progress,
    SagaStatus,
    Step,
    StepStatus,
)
from durable_sagas.ids import is_uuid
from durable_sagas.messages import Event, EventType
from durable_sagas.models import SagaInstance, SagaStep
from durable_sagas.reactions import Abort, Compensate, Execute
from durable_sagas.saga_log import OPEN, Log

NAME_BASED = 5
"""The version of the UUIDs returned by ``events.delivery_of``."""


@dataclass(frozen=True)
class Run:
    """Execute the operation."""


@dataclass(frozen=True)
class Skip:
    """Record a compensation as skipped: there is nothing to compensate. Its ``event`` is published instead."""

    event: Event | None = None


@dataclass(frozen=True)
class Void:
    """Close an action that can no longer take effect: void its gateway's key, then record its failure."""

    reason: str


@dataclass(frozen=True)
class Reject:
    """Record the action as rejected, without running it."""

    reason: str


@dataclass(frozen=True)
class Repeat:
    """Reply as recorded, and send again what followed, if this delivery is the one that has to."""

    entry: SagaStep
    resend: bool


@dataclass(frozen=True)
class AlreadyFailed:
    """Fail again as recorded, so that the error callback is sent again."""

    entry: SagaStep


@dataclass(frozen=True)
class Drop:
    """Do nothing, and end the chain that the message belongs to."""

    reason: str


@dataclass(frozen=True)
class Ignore:
    """Do nothing: the event needs no operation of this service, at least not yet."""


@dataclass(frozen=True)
class PutBack:
    """Leave the message to a worker of another version of the code."""

    reason: str


Verdict = Run | Skip | Void | Reject | Repeat | AlreadyFailed | Drop | Ignore | PutBack


class Position(Enum):
    """Where a step is, seen from the saga's current step, in the direction of an operation."""

    CURRENT = auto()
    DONE = auto()
    CLOSED = auto()
    """The saga does not move in the operation's direction."""
    TOO_EARLY = auto()


@dataclass(frozen=True)
class StepRef:
    """The step and operation of one saga that a message addresses."""

    saga: SagaInstance
    plan: Plan
    step: Step
    operation: Operation

    @property
    def next_step(self) -> str | None:
        """The name of the next step in the operation's direction, or None."""
        remaining = self.plan.from_step if self.operation is Operation.ACTION else self.plan.to_compensate
        following = remaining(self.step.name)[1:]
        return following[0].name if following else None

    @property
    def position(self) -> Position:
        """Where the step is; authoritative only while the saga's row is locked."""
        forward = self.operation is Operation.ACTION
        is_open = self.saga.status in FORWARD if forward else self.saga.status == SagaStatus.COMPENSATING
        ended = SagaStatus.COMPLETED if forward else SagaStatus.COMPENSATED
        lead = self.plan.positions[self.saga.current_step] - self.plan.positions[self.step.name]
        if not forward:
            lead = -lead
        if self.saga.status == ended or (is_open and lead > 0):
            return Position.DONE
        if not is_open:
            return Position.CLOSED
        return Position.TOO_EARLY if lead < 0 else Position.CURRENT


def decide_step(ref: StepRef, command: Command, log: Log, task_id: str | None) -> Verdict:
    """Return what a message of an orchestrated saga means.

    A redelivery of the message that ran the step before the current one continues its chain: its worker may have died
    before it sent the rest. Every other chain ends here, because a faster one continues. Otherwise each chain that the
    sweep sends would repeat all steps to come, and the longer a queue is, the more messages would be added to it.
    """
    entry = log.get((ref.step.name, ref.operation))
    match ref.position:
        case Position.DONE if entry:
            is_own = entry.task_id == task_id
            return Repeat(entry, resend=is_own and ref.next_step == ref.saga.current_step)
        case Position.DONE:
            return Drop("never ran")
        case Position.CLOSED:
            return Drop(f"the saga is {ref.saga.status}")
        case Position.TOO_EARLY:
            return Drop(f"{ref.saga.current_step} comes first")
    if entry and entry.status == StepStatus.FAILED:
        return AlreadyFailed(entry)
    if ref.operation is Operation.COMPENSATION:
        return Run() if _may_have_effect(log, ref.step.name, command) else Skip()
    guard = ref.step.guard
    if guard and not guard.holds(Progress(ref.saga.payload, completed_steps(log))):
        return Reject(f"guard: {guard.says}")
    return Run()


def completed_steps(log: Log) -> frozenset[str]:
    """Return the steps whose action took effect according to a log."""
    done = ((step, entry) for (step, operation), entry in log.items() if operation is Operation.ACTION)
    return frozenset(step for step, entry in done if entry.status == StepStatus.COMPLETED)


def decide_reaction(
    decision: Execute | Compensate | Abort, log: Log, past: Collection[EventType], delivery_id: str
) -> Verdict:
    """Return what the delivery of an event to a reaction means. ``past`` has the types of the saga's events.

    An operation that another event's delivery executed is not repeated: that event's redelivery does so, and doing so
    here too would double everything that follows.
    """
    is_compensation = isinstance(decision, Compensate)
    command = decision.command if isinstance(decision, Execute) else decision.action
    entry = log.get((command.short_name, Operation.COMPENSATION if is_compensation else Operation.ACTION))
    if entry and entry.status == StepStatus.CLOSING:
        return Void(entry.error or "given up")  # a delivery began voiding it and did not finish
    if entry and entry.status not in OPEN:
        is_own = delivery_of(entry) in {None, delivery_id}
        return Repeat(entry, resend=is_own or isinstance(decision, Abort))
    match decision:
        case Abort(_, reason):
            return Void(reason)
        case Execute(_, unless):
            return Drop("called off") if unless in past else Run()
        case Compensate(action, compensation, event_type):
            if _may_have_effect(log, action.short_name, compensation):
                return Run()
            return Skip(Event(event_type) if event_type else None)


def _may_have_effect(log: Log, step: str, compensation: Command) -> bool:
    """Return whether there is something to compensate.

    A gateway call without an answer may have taken effect, whatever is logged: only the gateway's ledger shows it.
    """
    action = log.get((step, Operation.ACTION))
    return compensation.call is not None or (action is not None and action.status == StepStatus.COMPLETED)


class Consequence(Enum):
    """What follows from an operation's last failed attempt."""

    REJECTION = auto()
    """The failure is recorded and published; the saga is compensated."""
    VOID = auto()
    """The failure is not published before the gateway's key is voided.

    An attempt whose answer was lost, or a concurrent delivery of the message, may have succeeded.
    """
    STUCK = auto()
    """Nothing can be compensated, or the compensation itself failed: the saga waits for an operator."""


def decide_failure(operation: Operation, command: Command, *, choreographed: bool, irreversible: bool) -> Consequence:
    """Return what follows from an operation's last failure; ``irreversible`` is whether it is past the pivot."""
    if operation is Operation.COMPENSATION or irreversible:
        return Consequence.STUCK
    if not choreographed:
        return Consequence.REJECTION
    if command.void:
        return Consequence.VOID
    return Consequence.REJECTION if command.on_rejected else Consequence.STUCK


OVERTAKEN_AFTER = timedelta(seconds=1)
"""How much later than a saga those must have become ready that its queue has served, for it to be overtaken.

Messages are sent after the commit that makes a saga ready, and by several processes. It doubles with every re-drive.
"""

MAX_DOUBLINGS = 5

SHORTEST_SILENCE = timedelta(seconds=3)
"""How long a queue must be silent at least before its service counts as down: reports come once a second."""

TRIES = 3
"""How often a saga that is past its deadline is sent before it counts as not answered, though its queue is served."""


@dataclass(frozen=True)
class QueueState:
    """How far a queue has been served."""

    served_until: datetime | None
    """Whatever became ready before this has been served, unless its message is lost; None if that is not known."""
    silent_since: datetime
    """When it was last served, or when an outage that no service is to blame for ended after that."""


class Check(Enum):
    """What the sweep does with a saga whose message waits in a queue."""

    WAIT = auto()
    """It waits its turn."""
    REDRIVE = auto()
    """Its message is lost."""
    PROBE = auto()
    """Its message may be lost: nothing is served that would tell."""
    TIME_OUT = auto()
    """Its service does not answer."""


def decide_check(
    ready_at: datetime,
    redrives: int,
    deadline_at: datetime | None,
    timeout: timedelta,
    queue: QueueState,
    now: datetime,
) -> Check:
    """Return what the sweep does with a saga that has been waiting in a queue since ``ready_at``.

    A deadline says that a service does not answer, not that a queue is long. It passes if the queue has been silent for
    the step's timeout; if the queue is served and the saga's message is lost again and again; or while a step that was
    begun waits for its retry: then ``ready_at`` is in the future.
    """
    is_overdue = deadline_at is not None and deadline_at <= now
    if ready_at > now:
        return Check.TIME_OUT if is_overdue else Check.WAIT
    if is_overdue and now - queue.silent_since >= max(timeout, SHORTEST_SILENCE):
        return Check.TIME_OUT
    if queue.served_until and ready_at + patience(redrives) < queue.served_until:
        return Check.TIME_OUT if is_overdue and redrives >= TRIES else Check.REDRIVE
    return Check.WAIT


def next_look_at(
    ready_at: datetime, deadline_at: datetime | None, timeout: timedelta, queue: QueueState, now: datetime
) -> datetime:
    """Return when the sweep looks again at a saga that waits its turn: when its service could not have answered."""
    if deadline_at is None:
        return now + timeout
    earliest = deadline_at if ready_at > now else queue.silent_since + max(timeout, SHORTEST_SILENCE)
    return max(earliest, deadline_at, now + OVERTAKEN_AFTER)


def patience(redrives: int) -> timedelta:
    """Return how much later sagas must have become ready to overtake one that was re-driven so many times."""
    return OVERTAKEN_AFTER * (1 << min(redrives, MAX_DOUBLINGS))


def delivery_of(entry: SagaStep) -> str | None:
    """Return the delivery (``events.delivery_of``) that last attempted an operation, if the entry has it.

    Versions without the column ``delivery_id`` logged the task id, which is the delivery (a UUID of version 5) only in
    a message's first copy: later copies have random ids.
    """
    if entry.delivery_id is None and entry.task_id and is_uuid(entry.task_id):
        return entry.task_id if UUID(entry.task_id).version == NAME_BASED else None
    return entry.delivery_id


def finished_deliveries(log: Mapping[Any, SagaStep]) -> frozenset[str | None]:
    """Return the deliveries whose operations have ended, so that the events they published are stored."""
    return frozenset(delivery_of(entry) for entry in log.values() if entry.status not in OPEN | {StepStatus.CLOSING})
