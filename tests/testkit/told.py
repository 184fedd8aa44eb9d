"""Sagas as tests tell them: rows and operations of the log, made by hand."""

from datetime import UTC, datetime, timedelta
from typing import Any

from app.ids import new_id
from app.saga.definition import Operation, SagaStatus, StepStatus
from app.saga.models import SagaInstance
from app.saga.timeline import HistoryEntry
from web.diagrams.plan import PlannedStep

START = datetime(2026, 1, 1, 12, tzinfo=UTC)

PLAN = (
    PlannedStep("create_order", "orders", "cancel_order"),
    PlannedStep("reserve_stock", "inventory", "release_stock"),
    PlannedStep("process_payment", "payments", "refund_payment"),
    PlannedStep("arrange_shipping", "shipping", "cancel_shipment", pivot=True),
    PlannedStep("ship_stock", "inventory"),
    PlannedStep("complete_order", "orders"),
)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def saga(
    status: str, *, current_step: str | None = None, turned: float | None = None, until: float = 1
) -> SagaInstance:
    """Return a saga's row; ``turned`` is when it turned back, and ``until`` when its row was last changed."""
    history: list[Any] = [{"state": "STARTED", "at": START.isoformat()}]
    if turned is not None:
        history.append({"state": "COMPENSATION_STARTED", "at": at(turned).isoformat()})
    return SagaInstance(
        id=new_id(),
        saga_type="order",
        aggregate_id="order-1",
        status=SagaStatus(status),
        state=history[-1]["state"],
        current_step=current_step,
        steps=[step.name for step in PLAN],
        payload={},
        state_history=history,
        created_at=START,
        updated_at=at(until),
    )


def done(step: str, begin: float, end: float, **changes: Any) -> HistoryEntry:
    """Return an operation that was done at its first attempt, unless ``changes`` say otherwise."""
    usual = {"operation": Operation.ACTION, "status": StepStatus.COMPLETED, "attempts": 1, "last_started_at": at(begin)}
    return HistoryEntry(**{"step": step, "started_at": at(begin), "finished_at": at(end), **usual, **changes})


def undone(step: str, begin: float, end: float, **changes: Any) -> HistoryEntry:
    return done(step, begin, end, operation=Operation.COMPENSATION, **changes)


def failure(number: int, begin: float, end: float, retry_at: float | None = None) -> dict[str, Any]:
    """Return a failed attempt as the log keeps it."""
    again = {} if retry_at is None else {"retry_at": at(retry_at).isoformat(), "most": 3}
    moments = {"started_at": at(begin).isoformat(), "finished_at": at(end).isoformat()}
    return {"attempt": number, "error": "unavailable", **moments, **again}
