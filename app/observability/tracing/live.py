"""The tracing of one process, from its start to its end."""

import atexit
import os
import socket
import threading
from collections.abc import Callable

from opentelemetry import context, propagate, trace
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy import Engine

from app.observability.tracing.celery import TracedCelery
from app.observability.tracing.export import RedactingExporter, otlp_exporter
from app.observability.tracing.sagas import SagaTraces, note
from app.observability.tracing.sampling import DropIdleSpans
from app.saga import signals

FLUSH_TIMEOUT_SECONDS = 2.0
"""How long a process that ends waits for the collector to take its last spans."""


class LiveTraces:
    """Makes this process's spans and sends them to the collector, in a thread of its own."""

    def __init__(self, endpoint: str, role: str) -> None:
        self.pid = os.getpid()
        self.provider = TracerProvider(resource=_resource(role), shutdown_on_exit=False)
        self.provider.sampler = DropIdleSpans(self.provider.sampler)
        self._exporter = RedactingExporter(otlp_exporter(endpoint))
        self.provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self.sagas = SagaTraces(self.provider.get_tracer("cloudmart"))
        self._statements = self.provider.get_tracer("cloudmart.statements")
        self._usage = NoOpMeterProvider().get_meter("cloudmart").create_up_down_counter("connections")
        if "OTEL_PROPAGATORS" not in os.environ:
            # no baggage: whatever a client puts there would travel with every message of its order
            propagate.set_global_textmap(TraceContextTextMapPropagator())
        TracedCelery().instrument(tracer_provider=self.provider, meter_provider=NoOpMeterProvider())
        signals.connect(note)
        atexit.register(self.stop)

    def stop(self) -> None:
        """Undo the constructor, and send what is left; a collector that does not answer holds up nobody for long."""
        atexit.unregister(self.stop)
        signals.disconnect(note)
        TracedCelery().uninstrument()
        EngineTracer.remove_all_event_listeners()
        last_words = threading.Thread(target=self.provider.shutdown, name="last spans", daemon=True)
        last_words.start()
        last_words.join(FLUSH_TIMEOUT_SECONDS)
        if last_words.is_alive():
            self._exporter.give_up()

    def watch(self, engine: Engine) -> None:
        """Trace the engine's statements.

        The instrumentor of the whole library is left out: it says that it is not for SQLAlchemy 2.1, of which it
        patches functions, and has a span for each connection taken from the pool. Its part for one engine goes by
        SQLAlchemy's events, which are the same in 2.1.
        """
        EngineTracer(self._statements, engine, self._usage)

    def bound(self, callback: Callable[[], object]) -> Callable[[], object]:
        """Return the callback such that it runs in the present context."""
        return within(context.get_current(), callback)

    def current_trace_id(self) -> str | None:
        """Return the id of the current trace if it is kept."""
        span = trace.get_current_span().get_span_context()
        return trace.format_trace_id(span.trace_id) if span.is_valid and span.trace_flags.sampled else None


def within(when: context.Context, callback: Callable[[], object]) -> Callable[[], object]:
    """Return the callback such that it runs in a context."""

    def call() -> object:
        token = context.attach(when)
        try:
            return callback()
        finally:
            context.detach(token)

    return call


def _resource(role: str) -> Resource:
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come before what we would say
    said = dict(Resource.create().attributes)
    if str(said["service.name"]).startswith("unknown_service"):
        said["service.name"] = role
    instance = f"{socket.gethostname()}-{os.getpid()}"
    return Resource({"service.namespace": "cloudmart", "service.instance.id": instance, **said})
