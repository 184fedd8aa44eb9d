"""Whose turn it is: a step of a saga that a message is about, and what the fence says to it."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from app.saga.definition import FORWARD, Operation, Plan, RetryPolicy, SagaStatus, Step
from app.saga.models import SagaInstance


class Fence(Enum):
    """What the saga's row says to a step that wants to run."""

    OPEN = auto()
    """It is this step's turn."""
    PASSED = auto()
    """The saga is past this step, in the step's direction."""
    CLOSED = auto()
    """The saga does not go in the step's direction."""
    AHEAD = auto()
    """Other steps come first."""


@dataclass(frozen=True)
class Turn:
    """An operation of a step of one saga, with what it needs to run."""

    saga: SagaInstance
    plan: Plan
    step: Step
    operation: Operation

    @property
    def data(self) -> dict[str, Any]:
        """What the step's message is made of; a compensation is told why."""
        if self.operation is Operation.ACTION:
            return self.saga.payload
        return {**self.saga.payload, "reason": self.saga.error}

    @property
    def following(self) -> str | None:
        """The name of the step that comes after this one in its direction."""
        if self.operation is Operation.ACTION:
            following = self.plan.following(self.step.name)
        else:
            following = next(iter(self.plan.undoing(self.step.name)[1:]), None)
        return following.name if following else None

    @property
    def policy(self) -> RetryPolicy:
        """How failures of this operation are retried."""
        return self.step.policy if self.operation is Operation.ACTION else self.step.compensation_retry

    @property
    def fence(self) -> Fence:
        """What the row says; the last word only while it is locked."""
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
