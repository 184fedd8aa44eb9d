"""The tables of the engine: the saga log, which is authoritative, the events, and the outbox."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from durable_sagas.database import Base, UuidText
from durable_sagas.definition import (
    COMPENSATION_STARTED,
    FAILED,
    CancelDecision,
    Operation,
    OperatorActionType,
    SagaStatus,
    StepStatus,
)
from durable_sagas.messages import EventType

WAITS = text("wake_at IS NOT NULL")
"""The rows that the sweep checks: a saga that has ended, or is stuck, has no ``wake_at``."""

QUEUED = text("queue IS NOT NULL")
"""The rows of sagas that wait in a queue."""

CANCEL_REASONS = {
    CancelDecision.PENDING: "requested, and not decided yet",
    CancelDecision.COMPENSATED: "it was requested before the point of no return",
    CancelDecision.TOO_LATE: "it was past the point of no return when the request was handled",
}


class SagaInstance(Base):
    """A saga. For an orchestrated saga the row decides what may run.

    For a choreographed saga it is a projection for readers and the sweep: no service decides by it.
    """

    __tablename__ = "saga_instances"
    __table_args__ = (
        # over unfinished rows only, so that the sweep's cost does not grow with the finished ones
        Index("ix_saga_instances_wake_at", "wake_at", postgresql_where=WAITS, sqlite_where=WAITS),
        # in the order in which a queue is served
        Index("ix_saga_instances_queue_ready_at", "queue", "ready_at", postgresql_where=QUEUED, sqlite_where=QUEUED),
        # sagas of one status and type are contiguous, newest last
        Index("ix_saga_instances_status_saga_type_id", "status", "saga_type", "id"),
    )

    id: Mapped[str] = mapped_column(UuidText, primary_key=True)
    saga_type: Mapped[str] = mapped_column(String(64))
    aggregate_id: Mapped[str] = mapped_column("order_id", String(64), unique=True)
    """What the saga is about. The column has the seeds' name; the engine does not interpret the id."""
    status: Mapped[SagaStatus] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(32))
    current_step: Mapped[str | None] = mapped_column(String(64))
    """Forward: the step to run next. Compensating: the step to compensate next."""
    steps: Mapped[list[Any]]
    """The names of the steps that it started with."""
    outline: Mapped[list[Any] | None]
    """The outline of those steps for processes that do not declare them: see ``Saga.outline``."""
    payload: Mapped[dict[str, Any]]
    state_history: Mapped[list[Any]]
    """Every state that it entered: ``{"state", "at"}``."""
    error: Mapped[str | None] = mapped_column(Text)
    """Why compensation started."""
    stuck_reason: Mapped[str | None] = mapped_column(Text)
    """Why it is stuck, while it is."""
    deadline_at: Mapped[datetime | None]
    wake_at: Mapped[datetime | None]
    """When the sweep checks it next, unless it makes progress first; during a sweep, when its lease ends."""
    queue: Mapped[str | None] = mapped_column(String(255))
    """The queue that its next message waits in; None while a gateway is called for it, or if that is not known.

    A choreographed saga may have messages in several queues: this is that of one of them.
    """
    ready_at: Mapped[datetime | None]
    """When that message was sent, or, if its step is retried, when it is to be executed."""
    cancel_requested_at: Mapped[datetime | None]
    """When cancellation was first requested; see ``cancel_decision`` for the outcome."""
    redrives: Mapped[int] = mapped_column(default=0)
    """Number of re-drives by the sweep since it last made progress."""
    unsupported_since: Mapped[datetime | None]
    """When a process that cannot drive it first swept it, since it last made progress or a capable process swept it."""
    traceparent: Mapped[str | None] = mapped_column(String(55))
    """The span that started it, in W3C Trace Context format; later re-drives continue its trace."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    @property
    def pattern(self) -> str:
        """Return the pattern: an orchestrated saga stores its steps, a choreographed one has no such list."""
        return "orchestration" if self.steps else "choreography"

    @property
    def cancel_decision(self) -> CancelDecision | None:
        """Return the outcome of the request to cancel it, or None if there was none."""
        if self.cancel_requested_at is None:
            return None
        if self.status == SagaStatus.COMPLETED:
            return CancelDecision.TOO_LATE
        return CancelDecision.COMPENSATED if self.state in {COMPENSATION_STARTED, FAILED} else CancelDecision.PENDING

    @property
    def cancel_reason(self) -> str | None:
        """Return the reason for that outcome as a sentence, or None."""
        return CANCEL_REASONS[self.cancel_decision] if self.cancel_decision else None

    @property
    def failure_reason(self) -> str | None:
        """Return the reason to show first: why it is stuck, else why compensation started."""
        return self.stuck_reason or self.error


class SagaStep(Base):
    """An operation of a step: barrier, log and recorded reply in one row, written with the business change."""

    __tablename__ = "saga_steps"

    # no foreign key to the saga: a participant with its own database keeps these rows there
    saga_id: Mapped[str] = mapped_column(UuidText, primary_key=True)
    step: Mapped[str] = mapped_column(String(64), primary_key=True)
    operation: Mapped[Operation] = mapped_column(String(16), primary_key=True)
    status: Mapped[StepStatus] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0)
    earlier_attempts: Mapped[int] = mapped_column(default=0)
    """Attempts made before the current round of retries: a resumed operation gets a full round."""
    task_id: Mapped[str | None] = mapped_column(String(64), index=True)
    """The task that made the last attempt, as shown by Flower. A message that is sent again has another id."""
    delivery_id: Mapped[str | None] = mapped_column(String(36))
    """The event's delivery that made the last attempt (``events.delivery_of``), the same for every copy of its message.

    Only in a choreographed saga; for rows written by versions without the column see ``decisions.delivery_of``.
    """
    result: Mapped[dict[str, Any] | None]
    error: Mapped[str | None] = mapped_column(Text)
    event_id: Mapped[str | None] = mapped_column(UuidText)
    """The event that it published, republished when its message is redelivered."""
    failures: Mapped[list[Any]]
    """Every failed attempt: ``{"attempt", "started_at", "finished_at", "error"}``.

    One that is to be retried also has the time (``retry_at``) and the maximum number of attempts (``most``).
    """
    started_at: Mapped[datetime]
    """When its last attempt began."""
    finished_at: Mapped[datetime | None]
    done_by: Mapped[str | None] = mapped_column(String(200))
    """Who reported that it was completed manually, outside the system; ``note`` is their remark."""
    note: Mapped[str | None] = mapped_column(Text)


class Sweep(Base):
    """When the recovery sweep last ran, and the outages that it recorded (see ``outages``): one row per moment."""

    __tablename__ = "sweeps"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    swept_at: Mapped[datetime]


class QueueProgress(Base):
    """How far one process has served a queue: see ``queue_progress``."""

    __tablename__ = "queue_progress"

    queue: Mapped[str] = mapped_column(String(255), primary_key=True)
    process_id: Mapped[str] = mapped_column(UuidText, primary_key=True)
    served_until: Mapped[datetime | None]
    """The ``ready_at`` of the newest message that it has served, and with it all that it was given before."""
    moved_at: Mapped[datetime]
    """When it last served a message."""
    settled: Mapped[int] = mapped_column(default=0)
    """Number of sagas that it has completed or compensated."""


class OperatorAction(Base):
    """An operator's action on a saga, written with its effect; rejected actions are not stored."""

    __tablename__ = "operator_acts"

    id: Mapped[str] = mapped_column(UuidText, primary_key=True)
    saga_id: Mapped[str] = mapped_column(UuidText, index=True)
    at: Mapped[datetime]
    act: Mapped[OperatorActionType] = mapped_column(String(16))
    by: Mapped[str] = mapped_column(String(200))
    note: Mapped[str | None] = mapped_column(Text)


class StoredEvent(Base):
    """An event; those of an aggregate (an order) are numbered 1, 2, 3 … in commit order."""

    __tablename__ = "events"
    __table_args__ = (UniqueConstraint("aggregate_id", "sequence"),)

    id: Mapped[str] = mapped_column(UuidText, primary_key=True)
    event_type: Mapped[EventType] = mapped_column(String(64))
    aggregate_id: Mapped[str] = mapped_column(String(64))
    sequence: Mapped[int]
    payload: Mapped[dict[str, Any]]
    timestamp: Mapped[datetime]


class OutboxEntry(Base):
    """An outbox entry: an event that a subscriber has not handled yet."""

    __tablename__ = "outbox"

    event_id: Mapped[str] = mapped_column(UuidText, ForeignKey("events.id", ondelete="CASCADE"), primary_key=True)
    subscriber: Mapped[str] = mapped_column(String(128), primary_key=True)
    saga_id: Mapped[str] = mapped_column(UuidText)
    wake_at: Mapped[datetime] = mapped_column(index=True)
    """When the sweep sends it again."""
    resent: Mapped[int] = mapped_column(default=0)
