"""The saga log: what was started, what was done, what was undone. It is the truth; messages are hints."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base, UuidText
from app.retention import Of, RetentionRule
from app.saga.definition import (
    COMPENSATION_STARTED,
    FAILED,
    CancelDecision,
    Operation,
    OperatorActionType,
    SagaStatus,
    StepStatus,
)

WAITS = text("wake_at IS NOT NULL")
"""What the sweep has ever to look at: a saga that has ended, or is stuck, waits for nothing."""


CANCEL_REASONS = {
    CancelDecision.PENDING: "requested, and not decided yet",
    CancelDecision.UNDONE: "it was requested before the point of no return",
    CancelDecision.TOO_LATE: "it was past the point of no return when the request was handled",
}


class SagaInstance(Base):
    """One saga. Of an orchestrated one the row decides what may run.

    Of a choreographed one it is a projection for readers and the sweep: no service decides by it.
    """

    __tablename__ = "saga_instances"
    __table_args__ = (
        # over unfinished rows only, so that the sweep's cost does not grow with what is done
        Index("ix_saga_instances_wake_at", "wake_at", postgresql_where=WAITS, sqlite_where=WAITS),
        # what shares a status and a type lies in one stretch, newest last: see saga_search, which has two more
        Index("ix_saga_instances_status_saga_type_id", "status", "saga_type", "id"),
    )

    id: Mapped[str] = mapped_column(UuidText, primary_key=True)
    saga_type: Mapped[str] = mapped_column(String(64))
    aggregate_id: Mapped[str] = mapped_column("order_id", String(64), unique=True)
    """What the saga is about. The column has the seeds' name; the engine does not care what an order is."""
    status: Mapped[SagaStatus] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(32))
    current_step: Mapped[str | None] = mapped_column(String(64))
    """Forward: the step to run next. Compensating: the step to compensate next."""
    steps: Mapped[list[Any]]
    """The names of the steps it started with."""
    outline: Mapped[list[Any] | None]
    """What those steps are to a process that does not declare them: see ``Saga.outline``."""
    payload: Mapped[dict[str, Any]]
    state_history: Mapped[list[Any]]
    """Every state it was in: ``{"state", "at"}``."""
    error: Mapped[str | None] = mapped_column(Text)
    """Why it turned back."""
    stuck_reason: Mapped[str | None] = mapped_column(Text)
    """What it is stuck on, while it is."""
    deadline_at: Mapped[datetime | None]
    wake_at: Mapped[datetime | None]
    """When the sweep looks at it, unless it moves on before; the sweep's lease while it does."""
    cancel_requested_at: Mapped[datetime | None]
    """When its cancellation was first requested; see ``cancel_decision`` for the outcome."""
    redrives: Mapped[int] = mapped_column(default=0)
    """How often the sweep had to drive it on since it last made progress."""
    unsupported_since: Mapped[datetime | None]
    """When a process that cannot move it first swept it, since one that can last did or it made progress."""
    traceparent: Mapped[str | None] = mapped_column(String(55))
    """The span that started it, as W3C Trace Context writes one; what drives it on later goes on with that trace."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    @property
    def pattern(self) -> str:
        """Return who drives it: an orchestrated saga carries its steps, of a choreographed one nobody holds a list."""
        return "orchestration" if self.steps else "choreography"

    @property
    def cancel_decision(self) -> CancelDecision | None:
        """Return what became of the request to cancel it, or None if there was none."""
        if self.cancel_requested_at is None:
            return None
        if self.status == SagaStatus.COMPLETED:
            return CancelDecision.TOO_LATE
        return CancelDecision.UNDONE if self.state in {COMPENSATION_STARTED, FAILED} else CancelDecision.PENDING

    @property
    def cancel_reason(self) -> str | None:
        """Return why that was decided, in a sentence."""
        return CANCEL_REASONS[self.cancel_decision] if self.cancel_decision else None

    @property
    def trouble(self) -> str | None:
        """Return what people should read first: what it is stuck on, else why it turned back."""
        return self.stuck_reason or self.error


class SagaStep(Base):
    """One operation of one step: barrier, log and recorded reply in one row, written with the business change."""

    __tablename__ = "saga_steps"

    # no foreign key to the saga: a participant with a database of its own keeps these rows there
    saga_id: Mapped[str] = mapped_column(UuidText, primary_key=True)
    step: Mapped[str] = mapped_column(String(64), primary_key=True)
    operation: Mapped[Operation] = mapped_column(String(16), primary_key=True)
    status: Mapped[StepStatus] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0)
    earlier_attempts: Mapped[int] = mapped_column(default=0)
    """How many of the attempts were made before the present round of retries: a resumed operation has a full one."""
    task_id: Mapped[str | None] = mapped_column(String(64), index=True)
    """The task that made the last attempt, as Flower knows it. A message that is sent again has another."""
    delivery_id: Mapped[str | None] = mapped_column(String(36))
    """The event's delivery that made the last attempt (``events.delivery_of``), the same for every copy of its message.

    Only in a choreographed saga; for rows of versions without the column see ``barrier.delivery_of``.
    """
    result: Mapped[dict[str, Any] | None]
    error: Mapped[str | None] = mapped_column(Text)
    event_id: Mapped[str | None] = mapped_column(UuidText)
    """The event it recorded, to be sent again when its message comes again."""
    failures: Mapped[list[Any]]
    """Every attempt that failed: ``{"attempt", "started_at", "finished_at", "error"}``.

    One that is to be tried again also says when (``retry_at``) and how many attempts there are at most (``most``).
    """
    started_at: Mapped[datetime]
    """When its last attempt began."""
    finished_at: Mapped[datetime | None]
    done_by: Mapped[str | None] = mapped_column(String(200))
    """Who said that a person did, outside the system, what this operation could not do; ``note`` is what they added."""
    note: Mapped[str | None] = mapped_column(Text)


class Sweep(Base):
    """When the recovery sweep last ran, and what it noted of outages (see ``outage``): a row for each moment."""

    __tablename__ = "sweeps"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    swept_at: Mapped[datetime]


class OperatorAction(Base):
    """What an operator did to a saga, written with what it caused; what was refused is not here."""

    __tablename__ = "operator_acts"

    id: Mapped[str] = mapped_column(UuidText, primary_key=True)
    saga_id: Mapped[str] = mapped_column(UuidText, index=True)
    at: Mapped[datetime]
    act: Mapped[OperatorActionType] = mapped_column(String(16))
    by: Mapped[str] = mapped_column(String(200))
    note: Mapped[str | None] = mapped_column(Text)


RETENTION = (
    RetentionRule(SagaStep, "saga_id", Of.SAGA),
    RetentionRule(OperatorAction, "saga_id", Of.SAGA),
    RetentionRule(SagaInstance, "id", Of.SAGA),
)
"""What goes with a saga that is no longer kept, itself last."""
