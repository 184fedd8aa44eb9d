"""Deliveries of messages, what one means in a transaction, and what becomes of it: the data of ``execution``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol

from sqlalchemy.orm import Session

from durable_sagas.decisions import Drop, Ignore, PutBack, Run, Verdict, Void
from durable_sagas.definition import RETRY_UNTIL_STUCK, Command, Operation, Plan, RetryPolicy
from durable_sagas.history import History
from durable_sagas.messages import Event, Reply
from durable_sagas.models import SagaInstance, SagaStep
from durable_sagas.reactions import Decision
from durable_sagas.saga_log import SagaRecord


@dataclass(frozen=True)
class GatewayResult:
    """What a gateway answered; ``function`` is the one that was called, None if there was none to call."""

    function: Callable[..., Any] | None
    answer: Any


@dataclass(frozen=True)
class Delivery:
    """A message, and what has become of it so far."""

    task_id: str | None
    saga_id: str
    started_at: datetime
    event_id: str | None = None
    """Of a reaction: the event."""
    sent_at: datetime | None = None
    """When the message was sent, if that is known."""
    called: GatewayResult | None = None
    decision: Decision = None
    """Of a reaction that called a gateway: what it decided before the call. Later events do not change that."""
    error: Exception | None = None
    """Why the attempt failed; the next transaction records it."""


@dataclass(eq=False)
class Attempt:
    """A delivery in one transaction: what it addresses, what it means, and what came of it.

    ``data`` is what the command's message is built from. ``irreversible`` is whether a failure cannot be compensated.
    """

    delivery: Delivery
    record: SagaRecord
    verdict: Verdict
    command: Command
    step: str
    operation: Operation
    data: Mapping[str, Any] = field(default_factory=dict)
    policy: RetryPolicy = RETRY_UNTIL_STUCK
    irreversible: bool = False
    delivery_id: str | None = None
    plan: Plan | None = None
    """Of an orchestrated saga."""
    past: History | None = None
    """Of a choreographed saga: its events."""
    decision: Decision = None
    """Of a choreographed saga: what its reaction decided."""
    event: Event | None = None
    """The event to publish."""
    entry: SagaStep | None = None
    """The log entry written."""

    must_call: bool = False
    """Whether a gateway, or an interceptor, has to be called before it can be recorded."""

    def __post_init__(self) -> None:
        self.saga: SagaInstance = self.record.saga
        logged = self.record.log.get((self.step, self.operation))
        self.number = logged.attempts + 1 if logged else 1
        """The number of this attempt at the operation, from 1."""

    @property
    def choreographed(self) -> bool:
        """Whether the saga is choreographed."""
        return self.past is not None

    @property
    def reason(self) -> str | None:
        """Why the saga is compensated, or None."""
        reason = self.past.data.get("reason") if self.past else self.saga.error
        return None if reason is None else str(reason)

    @cached_property
    def message(self) -> Any:
        """The command's message."""
        return self.command.message(self.data)

    @property
    def gateway(self) -> Callable[[Any, str], Any] | None:
        """The function that calls the gateway for this operation, or None."""
        if isinstance(self.verdict, Void):
            return self.command.void
        return self.command.call if isinstance(self.verdict, Run) else None

    @property
    def key(self) -> str:
        """The idempotency key; the same for action and compensation, so that this voids what that may have done."""
        return f"{self.saga.id}:{self.step}"


@dataclass(frozen=True)
class Finished:
    """The task returns this reply; ``send_next`` is whether the rest of its chain is sent."""

    reply: Reply
    send_next: bool = True


@dataclass(frozen=True)
class Failed:
    """The task fails with this reply."""

    reply: Reply
    cause: Exception | None = None


@dataclass(frozen=True)
class RetryIn:
    """The message is delivered again after ``seconds``."""

    seconds: float
    cause: Exception


@dataclass(frozen=True)
class LeaveToOthers:
    """The message is left to a worker of another version of the code."""

    reply: Reply


@dataclass(frozen=True)
class Dismissal:
    """A delivery that requests nothing here, and its result."""

    delivery: Delivery
    result: Finished | LeaveToOthers


@dataclass(frozen=True)
class CallGateway:
    """The gateway is called, or a fault injected, outside the transaction."""

    attempt: Attempt


Result = Finished | Failed | RetryIn | CallGateway | LeaveToOthers


class PatternRules(Protocol):
    """What differs between the two patterns for the deliveries of one task."""

    task_name: str
    calls_gateway: bool
    """Whether a first, unlocked look is enough, because a gateway is called before anything is written."""

    def decide(self, session: Session, found: Sequence[tuple[Delivery, SagaRecord]]) -> list[Attempt | Dismissal]:
        """Return what each of these deliveries means, in the given order."""

    def deadline(self, attempt: Attempt, started_at: datetime) -> datetime | None:
        """Return when an operation that was begun at ``started_at`` is overdue; None if it never is."""

    def advance(self, attempt: Attempt, now: datetime) -> None:
        """Change the saga's state after a successful operation."""

    def publish(self, session: Session, attempts: Sequence[Attempt], now: datetime) -> None:
        """Write the events of attempts, with their ids on the log entries."""

    def republish(self, session: Session, attempt: Attempt, entry: SagaStep) -> None:
        """Send again the event that an operation published, if the task does not."""


def dismiss(delivery: Delivery, verdict: Drop | Ignore | PutBack, step: str) -> Dismissal:
    """Return the dismissal of a delivery that requests nothing here, or nothing that this process can do."""
    reply = Reply(success=isinstance(verdict, Ignore), saga_id=delivery.saga_id, step=step)
    if isinstance(verdict, Ignore):
        return Dismissal(delivery, Finished(reply))
    reply = replace(reply, error=verdict.reason)
    return Dismissal(
        delivery, LeaveToOthers(reply) if isinstance(verdict, PutBack) else Finished(reply, send_next=False)
    )
