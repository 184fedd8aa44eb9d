"""Present a saga's log for display: operation by operation, each of them attempt by attempt."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from durable_sagas.definition import ACTIVE, FORWARD, Operation, StepStatus
from durable_sagas.models import SagaInstance, SagaStep


@dataclass(frozen=True)
class LoggedAttempt:
    """An attempt at an operation of a step.

    ``outcome`` is a StepStatus, or ``failed`` for an attempt that was retried. ``number`` counts from 1; 0 stands for
    an action that was blocked before it ran. ``error`` is the failure, or who completed the operation manually, and
    their note.
    """

    step: str
    operation: Operation
    outcome: str
    number: int
    started_at: datetime
    finished_at: datetime | None
    error: str | None
    retry_at: datetime | None = None
    """When it was, or will be, retried."""
    nothing_to_undo: bool = False
    """Whether it was a compensation with nothing to compensate."""

    @property
    def milliseconds(self) -> float | None:
        """Return its duration, or None while it has not ended."""
        if self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds() * 1000


@dataclass(frozen=True)
class HistoryEntry:
    """An operation of a step as logged; ``started_at`` is when its first attempt began."""

    step: str
    operation: Operation
    status: StepStatus
    started_at: datetime
    last_started_at: datetime
    finished_at: datetime | None = None
    attempts: int = 0
    failures: Sequence[dict[str, Any]] = ()
    task_id: str | None = None
    delivery_id: str | None = None
    event_id: str | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    done_by: str | None = None
    note: str | None = None
    nothing_to_undo: bool = False
    """Whether it is a compensation that ran and whose service found that the action had had no effect."""

    @property
    def key(self) -> tuple[str, Operation]:
        """Return the key that identifies it within the saga."""
        return self.step, self.operation

    @property
    def retry_at(self) -> datetime | None:
        """Return when it will be retried, or None if no retry is due."""
        if self.status not in {StepStatus.RETRYING, StepStatus.CLOSING} or not self.failures:
            return None
        return _moment(self.failures[-1].get("retry_at"))

    @property
    def max_attempts(self) -> int | None:
        """Return the maximum number of attempts recorded with its last failure, or None."""
        return self.failures[-1].get("most") if self.failures else None

    def tries(self) -> list[LoggedAttempt]:
        """Return its attempts in order; a manual completion counts as one."""
        tried = [self._failed(failure) for failure in self.failures]
        last = self._last()
        return [*tried, last] if last else tried

    def _failed(self, failure: dict[str, Any]) -> LoggedAttempt:
        started_at, finished_at = (datetime.fromisoformat(failure[name]) for name in ("started_at", "finished_at"))
        number, error, retry_at = failure["attempt"], failure["error"], _moment(failure.get("retry_at"))
        return LoggedAttempt(
            self.step, self.operation, StepStatus.FAILED, number, started_at, finished_at, error, retry_at
        )

    def _last(self) -> LoggedAttempt | None:
        if self.done_by and self.finished_at:
            said = f"as {self.done_by} said: {self.note}" if self.note else f"as {self.done_by} said"
            at = self.finished_at
            return LoggedAttempt(self.step, self.operation, StepStatus.BY_HAND, self.attempts + 1, at, at, said)
        # a failed operation is represented by its last failure already; any other ended, or was blocked, after its
        # failures
        if self.status == StepStatus.RETRYING or (self.status == StepStatus.FAILED and self.failures):
            return None
        return LoggedAttempt(
            self.step,
            self.operation,
            self.status,
            self.attempts,
            self.last_started_at,
            self.finished_at,
            self.error,
            nothing_to_undo=self.nothing_to_undo,
        )


def operations(saga: SagaInstance, rows: Iterable[SagaStep]) -> list[HistoryEntry]:
    """Return a saga's operations, including the current one, from its log: actions, then compensations, by start."""
    entries = [_logged(row) for row in rows]
    under_way = _under_way(saga)
    if under_way and all(operation.key != under_way.key for operation in entries):
        entries.append(under_way)

    def when(logged: HistoryEntry) -> tuple[bool, datetime, int]:
        undoing = logged.operation is Operation.COMPENSATION
        # the position in the saga breaks ties between operations that began at the same moment
        place = saga.steps.index(logged.step) if logged.step in saga.steps else 0
        return undoing, logged.started_at, -place if undoing else place

    return sorted(entries, key=when)


def attempts(entries: Iterable[HistoryEntry]) -> list[LoggedAttempt]:
    """Return all attempts at these operations, in the order in which they began."""
    tries = [attempt for logged in entries for attempt in logged.tries()]
    return sorted(tries, key=lambda attempt: (attempt.started_at, attempt.operation, attempt.number))


_SHOWN_AS_LOGGED = (
    "finished_at", "attempts", "failures", "task_id", "delivery_id", "event_id", "result", "error", "done_by", "note",
)  # fmt: skip


def _logged(row: SagaStep) -> HistoryEntry:
    # the row has the start of its last attempt; its first failure, if any, began earlier
    first = datetime.fromisoformat(row.failures[0]["started_at"]) if row.failures else row.started_at
    return HistoryEntry(
        step=row.step,
        operation=Operation(row.operation),
        status=StepStatus(row.status),
        started_at=min(first, row.started_at),
        last_started_at=row.started_at,
        **{name: getattr(row, name) for name in _SHOWN_AS_LOGGED},
    )


def _under_way(saga: SagaInstance) -> HistoryEntry | None:
    """Return an orchestrated saga's current operation, which has no log row before its first attempt has ended."""
    if saga.status not in ACTIVE or saga.current_step is None:
        return None
    operation = Operation.ACTION if saga.status in FORWARD else Operation.COMPENSATION
    since = saga.updated_at
    return HistoryEntry(saga.current_step, operation, StepStatus.RUNNING, started_at=since, last_started_at=since)


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
