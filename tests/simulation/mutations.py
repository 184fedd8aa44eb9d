"""The engine with one of its protections taken out, to see whether the simulation notices."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.saga import barrier, recovery
from app.saga.definition import Operation, StepStatus
from app.saga.models import SagaStep
from app.saga.recovery import SweepResult
from app.saga.turn import Fence, Turn

_enter = barrier.enter


def _enter_always(session: Session, saga_id: str, step: str, operation: Operation, now: datetime) -> SagaStep:
    row = _enter(session, saga_id, step, operation, now)
    row.status = StepStatus.RUNNING
    return row


def without_barrier(patch: pytest.MonkeyPatch) -> None:
    """Have every operation look as if nobody had taken it, whatever the log says."""
    patch.setattr(barrier, "enter", _enter_always)
    patch.setattr(barrier, "is_free", lambda *_: True)


def without_fence(patch: pytest.MonkeyPatch) -> None:
    """Let every message of a chain pass, whichever step it is the turn of and wherever the saga is going."""
    patch.setattr(Turn, "fence", Fence.OPEN)


def without_sweep(patch: pytest.MonkeyPatch) -> None:
    """Have the sweep do nothing."""
    patch.setattr(recovery, "sweep", lambda: SweepResult(driven=0, timed_out=0, resent=0))


def _only_look(session: Session, saga_id: str, step: str, now: datetime, reason: str | None) -> Any:
    found = session.get(SagaStep, (saga_id, step, Operation.ACTION))
    return found or SagaStep(status=StepStatus.SKIPPED)


def without_null_compensation(patch: pytest.MonkeyPatch) -> None:
    """Have a compensation leave its action's door open."""
    patch.setattr(barrier, "block_action", _only_look)


MUTATIONS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "barrier": without_barrier,
    "fence": without_fence,
    "sweep": without_sweep,
    "null compensation": without_null_compensation,
}
