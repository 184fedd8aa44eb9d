"""Tracing of one process, from start to end."""

import atexit
import os
import socket
import threading

from opentelemetry import propagate, trace
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy import Engine

from app.observability.tracing.celery import TracedCelery
from app.observability.tracing.export import RedactingExporter, otlp_exporter
from app.observability.tracing.sampling import DropIdleSpans
from durable_sagas.tracing import SagaTracer, record_signal

FLUSH_TIMEOUT_SECONDS = 2.0
"""How long a process that ends waits for its last spans to be exported."""


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
