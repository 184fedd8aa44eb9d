"""The step that a message addresses, and whether it may run now."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from app.saga.definition import FORWARD, Operation, Plan, RetryPolicy, SagaStatus, Step
from app.saga.models import SagaInstance


class Fence(Enum):
    """Whether a saga's row allows an operation of a step to run."""

    OPEN = auto()
    """The step is the current one."""
    PASSED = auto()
    """The saga has passed the step, in the operation's direction."""
    CLOSED = auto()
    """The saga does not move in the operation's direction."""
    AHEAD = auto()
    """Other steps come first, in the operation's direction."""


@dataclass(frozen=True)
class Turn:
    """An operation of a step of one saga."""

    saga: SagaInstance
    plan: Plan
    step: Step
    operation: Operation

    @property
    def data(self) -> dict[str, Any]:
        """The data that the step's message is built from; a compensation also gets the reason."""
        if self.operation is Operation.ACTION:
            return self.saga.payload
        return {**self.saga.payload, "reason": self.saga.error}

    @property
    def following(self) -> str | None:
        """The name of the next step in the operation's direction, or None."""
        if self.operation is Operation.ACTION:
            following = self.plan.following(self.step.name)
        else:
            following = next(iter(self.plan.undoing(self.step.name)[1:]), None)
        return following.name if following else None

    @property
    def policy(self) -> RetryPolicy:
        """The retry policy of this operation."""
        return self.step.policy if self.operation is Operation.ACTION else self.step.compensation_retry

    @property
    def fence(self) -> Fence:
        """Whether the operation may run now; authoritative only while the saga's row is locked."""
        forward = self.operation is Operation.ACTION
        open_ = self.saga.status in FORWARD if forward else self.saga.status == SagaStatus.COMPENSATING
        through = SagaStatus.COMPLETED if forward else SagaStatus.COMPENSATED
        lead = self.plan.position(self.saga.current_step) - self.plan.position(self.step.name)
        if not forward:
            lead = -lead
        if self.saga.status == through or (open_ and lead > 0):
            return Fence.PASSED
        if not open_:
            return Fence.CLOSED
        return Fence.AHEAD if lead < 0 else Fence.OPEN
