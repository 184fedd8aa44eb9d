"""Prometheus metrics: count and time the signals of sagas, and the waiting time of messages.

Needs the extra ``prometheus``.
"""

import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from celery import Task
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from durable_sagas.definition import Operation, Saga
from durable_sagas.messaging.publisher import service_of
from durable_sagas.orchestrator import OrchestratedSaga
from durable_sagas.sagas import Sagas
from durable_sagas.signals import SagaSignal, SignalType

SAGA_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
STEP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
WAIT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

MAX_WAIT_SECONDS = 30 * 24 * 3600.0
"""Longer waits are ignored: such a message has a forged or wrong timestamp."""

COUNTED = {
    SignalType.SAGA_STARTED: ("saga_started", "Sagas that were started."),
    SignalType.SAGA_COMPLETED: ("saga_completed", "Sagas that completed."),
    SignalType.SAGA_TURNED_BACK: (
        "saga_failed",
        "Sagas whose compensation was started (state COMPENSATION_STARTED): a step failed finally, a deadline passed,"
        " or the saga was cancelled. See saga_compensated and saga_stuck for how the compensation ended.",
    ),
    SignalType.SAGA_COMPENSATED: ("saga_compensated", "Sagas that were compensated completely."),
    SignalType.SAGA_REDRIVEN: ("saga_redriven", "Re-drives, by the sweep, of sagas that had made no progress."),
    SignalType.STEP_COMPLETED: ("step_completed", "Actions and compensations that completed."),
    SignalType.STEP_FAILED: (
        "step_failed",
        "Actions and compensations that failed finally: rejected, or out of retries.",
    ),
    SignalType.STEP_RETRIED: ("step_retried", "Failed attempts at an action or compensation that are retried."),
}
ENDS = {SignalType.SAGA_COMPLETED: "completed", SignalType.SAGA_COMPENSATED: "compensated"}
ATTEMPTS = frozenset({SignalType.STEP_COMPLETED, SignalType.STEP_FAILED, SignalType.STEP_RETRIED})

SAGA_LABELS = ("type", "pattern")
STEP_LABELS = (*SAGA_LABELS, "step", "operation")


class _Key(NamedTuple):
    """The labels that select the series of a signal."""

    kind: SignalType
    saga_type: str
    pattern: str
    step: str | None = None
    operation: Operation | None = None


_Series = tuple[Counter, Histogram | None]
"""The counter, and the histogram if any, of one signal type and its labels."""


class SagaMetrics:
    """Counters and histograms of this process, in a ``registry`` of their own.

    Every predictable series exists from the start, at 0.

    Otherwise Prometheus would miss the first increment, with which the series appears. Create it once all sagas are
    declared, and connect ``count`` to their signals, ``time_wait`` to Celery's signal ``task_prerun``, and register
    ``count_refusal`` by ``sagas.admission.on_refusal``.
    """

    def __init__(self, sagas: Sagas) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped; drops the unused ``_created`` series
        self.registry = CollectorRegistry()
        self._counters = {
            kind: Counter(name, text, STEP_LABELS if name.startswith("step") else SAGA_LABELS, registry=self.registry)
            for kind, (name, text) in COUNTED.items()
        }
        self._refused = Counter(
            "saga_admissions_refused", "Sagas that were not started: too many were unfinished.", registry=self.registry
        )
        self._sagas = Histogram(
            "saga_duration_seconds",
            "How long sagas took from start to end, by how they ended.",
            (*SAGA_LABELS, "outcome"),
            buckets=SAGA_SECONDS,
            registry=self.registry,
        )
        self._steps = Histogram(
            "step_duration_seconds",
            "How long attempts at an action or compensation took in their worker, whatever their outcome.",
            STEP_LABELS,
            buckets=STEP_SECONDS,
            registry=self.registry,
        )
        waits = Histogram(
            "queue_wait_seconds",
            "How long messages waited from being sent, or from their ETA, until a worker started them.",
            ("queue",),
            buckets=WAIT_SECONDS,
            registry=self.registry,
        )
        self._waits = {queue: waits.labels(queue) for queue in sagas.services}
        self._series = {key: self._resolve(key) for key in _predictable_keys(sagas)}

    def count(self, signal: SagaSignal) -> None:
        """Count a signal; a listener of ``durable_sagas.signals``."""
        if signal.kind not in COUNTED:
            return
        key = _Key(signal.kind, signal.saga_type, signal.pattern, signal.step, signal.operation)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._resolve(key)
        counter, seconds = series
        counter.inc()
        if seconds and signal.seconds is not None:
            seconds.observe(max(0.0, signal.seconds))  # another machine's clock may be ahead

    def count_refusal(self) -> None:
        """Count a rejected saga; a listener of ``Admission``."""
        self._refused.inc()

    def time_wait(self, task: "Task[Any, Any]", **_: object) -> None:
        """Record how long a starting task's message has waited; a receiver of ``task_prerun``."""
        sent = getattr(task.request, "sent_at", None)
        if not isinstance(sent, int | float) or (waits := self._waits.get(service_of(task.name))) is None:
            return  # not from a queue of ours: the task was called directly
        waited = time.time() - max(sent, _due_at(getattr(task.request, "eta", None)))
        if waited <= MAX_WAIT_SECONDS:  # also false for NaN, which JSON can carry
            waits.observe(max(0.0, waited))

    def _resolve(self, key: _Key) -> _Series:
        labels: tuple[Any, ...] = (key.saga_type, key.pattern)
        if key.kind in ATTEMPTS:
            labels += (key.step, key.operation)
            return self._counters[key.kind].labels(*labels), self._steps.labels(*labels)
        outcome = ENDS.get(key.kind)
        seconds = self._sagas.labels(*labels, outcome) if outcome else None
        return self._counters[key.kind].labels(*labels), seconds


def _due_at(eta: str | datetime | None) -> float:
    """Return the earliest time at which a message may be processed: a retry is sent at once, with an ETA."""
    if eta is None:
        return 0.0
    return (eta if isinstance(eta, datetime) else datetime.fromisoformat(eta)).timestamp()


def _predictable_keys(sagas: Sagas) -> Iterable[_Key]:
    """Yield the series of all declared saga types."""
    known = sagas.saga_types.values()
    orchestrated = {driver.name: driver.definition for driver in known if isinstance(driver, OrchestratedSaga)}
    # a choreographed saga has no list of its steps; it has much the same ones
    any_step = {operation: None for saga in orchestrated.values() for operation in _operations(saga)}
    for driver in known:
        saga = orchestrated.get(driver.name)
        labels = (driver.name, "orchestration" if saga else "choreography")
        for kind in COUNTED:
            if kind in ATTEMPTS:
                yield from (_Key(kind, *labels, *operation) for operation in (_operations(saga) if saga else any_step))
            else:
                yield _Key(kind, *labels)


def _operations(saga: Saga) -> list[tuple[str, Operation]]:
    actions = [(step.name, Operation.ACTION) for step in saga.steps]
    return actions + [(step.name, Operation.COMPENSATION) for step in saga.steps if step.compensation]
