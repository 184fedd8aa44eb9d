"""Tracing of one process: what its spans are, from start to end."""

import atexit
import logging
import os
import socket
import threading
from collections.abc import Sequence
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes
from sqlalchemy import Engine, select

from app import runtime
from app.errors import DatabaseUnavailable
from app.observability.tracing.export import RedactingExporter, otlp_exporter
from durable_sagas.ids import is_uuid
from durable_sagas.models import SagaInstance
from durable_sagas.tracing import SagaTracer, record_signal

logger = logging.getLogger(__name__)

FLUSH_TIMEOUT_SECONDS = 2.0
"""How long a process that ends waits for its last spans to be exported."""

SWEEP = frozenset({"apply_async/orchestrator.sweep", "run/orchestrator.sweep"})
"""Spans of the sweep, which runs every second and mostly finds nothing; a re-drive has a span in its saga's trace."""


class DropIdleSpans(Sampler):
    """Drops the sweep, and statements outside any request or task; delegates the rest to another sampler."""

    def __init__(self, inner: Sampler) -> None:
        self.inner = inner

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide by the span's name, kind and parent."""
        is_root = not trace.get_current_span(parent_context).get_span_context().is_valid
        if name in SWEEP or (is_root and kind is SpanKind.CLIENT):
            return SamplingResult(Decision.DROP)
        return self.inner.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Return the sampler's description."""
        return f"DropIdleSpans({self.inner.get_description()})"


class TracedCelery(CeleryInstrumentor):
    """OpenTelemetry's instrumentation of Celery, with two changes.

    A message's span ends before the message is sent. The original makes it the current span until Celery signals that
    the message was sent; if the broker does not accept it there is no such signal, and the span would stay current, and
    in memory, for ever.

    A saga's message without a trace joins the trace of its saga. Such a message was sent by a process that is not
    traced: one started before tracing was enabled, or the parent of a pool, which sends the error callback of a child
    that was killed.
    """

    def _trace_before_publish(self, *args: Any, **kwargs: Any) -> None:
        super()._trace_before_publish(*args, **kwargs)
        super()._trace_after_publish(*args, **kwargs)

    @staticmethod
    def _trace_after_publish(*args: Any, **kwargs: Any) -> None:
        """Do nothing: the span has ended."""

    def _trace_prerun(self, *args: Any, **kwargs: Any) -> None:
        saga_id = (kwargs.get("kwargs") or {}).get("saga_id")
        if saga_id and is_uuid(saga_id):
            _join_saga_trace(kwargs["task"].request, saga_id)
        super()._trace_prerun(*args, **kwargs)
        if saga_id:
            trace.get_current_span().set_attribute("saga.id", saga_id)


def _join_saga_trace(request: Any, saga_id: str) -> None:
    # an eager task has no message: it runs in its sender's context
    if request.is_eager or getattr(request, "traceparent", None):
        return
    try:
        with runtime.current().database.reading() as session:
            request.traceparent = session.scalar(select(SagaInstance.traceparent).where(SagaInstance.id == saga_id))
    except DatabaseUnavailable as error:
        logger.warning("the task is not in its saga's trace", extra={"saga_id": saga_id, "reason": error})


class LiveTraces:
    """Creates this process's spans and exports them in a background thread."""

    def __init__(self, endpoint: str, role: str) -> None:
        self.pid = os.getpid()
        self.provider = TracerProvider(resource=_resource(role), shutdown_on_exit=False)
        self.provider.sampler = DropIdleSpans(self.provider.sampler)
        self._exporter = RedactingExporter(otlp_exporter(endpoint))
        self.provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self.record_signal = record_signal
        self.sagas = SagaTracer(self.provider.get_tracer("cloudmart"))
        self._statements = self.provider.get_tracer("cloudmart.statements")
        self._usage = NoOpMeterProvider().get_meter("cloudmart").create_up_down_counter("connections")
        if "OTEL_PROPAGATORS" not in os.environ:
            # no baggage: a client's baggage would travel with every message of its order
            propagate.set_global_textmap(TraceContextTextMapPropagator())
        TracedCelery().instrument(tracer_provider=self.provider, meter_provider=NoOpMeterProvider())
        atexit.register(self.stop)

    def stop(self) -> None:
        """Uninstall the instrumentation and export pending spans, waiting at most ``FLUSH_TIMEOUT_SECONDS``."""
        atexit.unregister(self.stop)
        TracedCelery().uninstrument()
        EngineTracer.remove_all_event_listeners()
        shutdown = threading.Thread(target=self.provider.shutdown, name="last spans", daemon=True)
        shutdown.start()
        shutdown.join(FLUSH_TIMEOUT_SECONDS)
        if shutdown.is_alive():
            self._exporter.cancel_retries()

    def instrument_engine(self, engine: Engine) -> None:
        """Trace the engine's statements.

        The library-wide instrumentor is not used: it does not declare support for SQLAlchemy 2.1, whose functions it
        patches, and creates a span for each connection taken from the pool. Its tracer for one engine relies on
        SQLAlchemy's events, which are unchanged in 2.1.
        """
        EngineTracer(self._statements, engine, self._usage)

    def current_trace_id(self) -> str | None:
        """Return the id of the current trace if it is sampled, else None."""
        span = trace.get_current_span().get_span_context()
        return trace.format_trace_id(span.trace_id) if span.is_valid and span.trace_flags.sampled else None


def _resource(role: str) -> Resource:
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence over these values
    attributes = dict(Resource.create().attributes)
    if str(attributes["service.name"]).startswith("unknown_service"):
        attributes["service.name"] = role
    instance = f"{socket.gethostname()}-{os.getpid()}"
    return Resource({"service.namespace": "cloudmart", "service.instance.id": instance, **attributes})
