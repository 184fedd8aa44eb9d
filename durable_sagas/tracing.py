"""Spans and span events of sagas with OpenTelemetry: one trace per saga. Needs the extra ``otel``.

A saga's trace is that of the request which starts it. It begins with a span of its own, so that two sagas started by
one request are distinct, and that span is stored on the saga's row: whatever drives the saga later continues from it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy import select
from sqlalchemy.orm import Session

from durable_sagas.database import after_commit
from durable_sagas.definition import Operation
from durable_sagas.models import SagaInstance
from durable_sagas.signals import SagaSignal, SignalType

_W3C = TraceContextTextMapPropagator()

ERRORS = frozenset({SignalType.STEP_FAILED, SignalType.SAGA_STUCK})
"""The signals that make a span an error. An attempt that will be retried is none: its span has an event for it."""

MAX_REASON_LENGTH = 200


class SagaTracer:
    """The spans of sagas as a whole; OpenTelemetry's instrumentation of Celery creates those of steps.

    Implements ``tracer.Tracer``. Connect ``record_signal`` to the sagas' signals.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def is_enabled(self) -> bool:
        """Return True."""
        return True

    @contextmanager
    def start_saga_span(self, session: Session, saga: SagaInstance) -> Iterator[None]:
        """Start the root span of a new saga, in the current trace if there is one; the block's messages continue it."""
        span = self._tracer.start_span(f"saga {saga.saga_type}", attributes=_attributes(saga))
        saga.traceparent = _traceparent(span)
        with _ended_after_commit(session, span):
            yield

    @contextmanager
    def continue_saga_span(self, session: Session, saga: SagaInstance, name: str) -> Iterator[None]:
        """Continue the trace of a saga that is driven from outside its tasks, in a span of this name.

        A saga without a trace, begun while tracing was off, gets one.
        """
        current = trace.get_current_span()
        link = current.get_span_context()
        span = self._tracer.start_span(
            name,
            context=_context(saga.traceparent) or Context(),
            attributes=_attributes(saga),
            links=[Link(link)] if link.is_valid and link.trace_flags.sampled else [],
        )
        saga.traceparent = saga.traceparent or _traceparent(span)
        # the request that causes this has a trace of its own: each links to the other
        current.add_link(span.get_span_context())
        with _ended_after_commit(session, span):
            yield

    def resend_span(self, session: Session, saga_id: str, callback: Callable[[], object]) -> Callable[[], object]:
        """Return the callback, which resends an event, wrapped in a span that continues the saga's trace."""
        traceparent = session.scalar(select(SagaInstance.traceparent).where(SagaInstance.id == saga_id))

        def send() -> None:
            with self._tracer.start_as_current_span(
                "event sent again", context=_context(traceparent), attributes={"saga.id": saga_id}
            ):
                callback()

        return send


def record_signal(signal: SagaSignal) -> None:
    """Add a signal to the current span: that of the task, or of what drives the saga from outside."""
    span = trace.get_current_span()
    if not span.is_recording():
        return
    attributes = _attributes_of(signal)
    span.add_event(signal.kind, attributes)
    if signal.kind in ERRORS:
        span.set_status(Status(StatusCode.ERROR))
    if signal.step is not None and getattr(span, "kind", None) is SpanKind.CONSUMER:
        span.set_attributes(attributes)
        if signal.operation is Operation.COMPENSATION:
            span.update_name(f"compensate/{signal.step}")


@contextmanager
def _ended_after_commit(session: Session, span: Span) -> Iterator[None]:
    """Make a span current in the block. It ends after the commit: rolled-back work is never exported."""
    with trace.use_span(span, record_exception=False, set_status_on_exception=False):
        yield
        after_commit(session, span.end)


def _attributes(saga: SagaInstance) -> dict[str, str]:
    return {
        "saga.id": saga.id,
        "order.id": saga.aggregate_id,
        "saga.type": saga.saga_type,
        "saga.pattern": saga.pattern,
    }


def _attributes_of(signal: SagaSignal) -> dict[str, str | int | float]:
    values: dict[str, str | int | float | None] = {
        "saga.id": signal.saga_id,
        "order.id": signal.order_id,
        "saga.type": signal.saga_type,
        "saga.pattern": signal.pattern,
        "step": signal.step or signal.current_step,
        "operation": signal.operation,
        "attempt": signal.attempt,
        # the lines after the first of an unexpected error may contain personal data
        "reason": signal.reason.partition("\n")[0][:MAX_REASON_LENGTH] if signal.reason else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _traceparent(span: Span) -> str | None:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier.get("traceparent")


def _context(traceparent: str | None) -> Context | None:
    return _W3C.extract({"traceparent": traceparent}, Context()) if traceparent else None
