"""The engine with one of its protections taken out, to see whether the simulation notices."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from app.sagas import sagas
from durable_sagas import choreography, decisions, orchestrator
from durable_sagas.decisions import Position, StepRef, Verdict
from durable_sagas.definition import Operation, StepStatus
from durable_sagas.models import SagaStep
from durable_sagas.reactions import Compensate
from durable_sagas.recovery import SweepResult
from durable_sagas.saga_log import Log, SagaRecord


def _decide_step(ref: StepRef, command: Any, log: Log, task_id: str | None) -> Verdict:
    return decisions.decide_step(ref, command, _without(log, ref.operation), task_id)


def _decide_reaction(decision: Any, log: Log, *rest: Any) -> Verdict:
    operation = Operation.COMPENSATION if isinstance(decision, Compensate) else Operation.ACTION
    return decisions.decide_reaction(decision, _without(log, operation), *rest)


def _without(log: Log, operation: Operation) -> Log:
    return {key: entry for key, entry in log.items() if key[1] is not operation}


def without_barrier(patch: pytest.MonkeyPatch) -> None:
    """Decide as if no operation of the kind had run, whatever the log says."""
    patch.setattr(orchestrator, "decide_step", _decide_step)
    patch.setattr(choreography, "decide_reaction", _decide_reaction)


def without_fence(patch: pytest.MonkeyPatch) -> None:
    """Let every message of a chain pass, whichever step is current and wherever the saga is going."""
    patch.setattr(StepRef, "position", Position.CURRENT)


def without_sweep(patch: pytest.MonkeyPatch) -> None:
    """Have the sweep do nothing."""
    patch.setattr(sagas, "sweep", lambda: SweepResult(driven=0, timed_out=0, resent=0))


def _only_look(record: SagaRecord, step: str, now: datetime) -> SagaStep:
    found = record.log.get((step, Operation.ACTION))
    return found or SagaStep(status=StepStatus.SKIPPED)


def without_null_compensation(patch: pytest.MonkeyPatch) -> None:
    """Have a compensation leave its action's door open."""
    patch.setattr(SagaRecord, "block_action", _only_look)


MUTATIONS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "barrier": without_barrier,
    "fence": without_fence,
    "sweep": without_sweep,
    "null compensation": without_null_compensation,
}
