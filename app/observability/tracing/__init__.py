"""Tracing of sagas with OpenTelemetry, enabled by ``OTEL_EXPORTER_OTLP_ENDPOINT``.

Without it nothing here imports OpenTelemetry, and each of these functions returns after checking ``_live``. With it the
modules beside this one do the work.
"""

import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from app import runtime
from app.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from app.observability.tracing.live import LiveTraces
    from durable_sagas.models import SagaInstance
    from durable_sagas.signals import SagaSignal

_live: "LiveTraces | None" = None

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})")


def start(settings: Settings, role: str) -> None:
    """Start tracing this process under the name of its role, if an endpoint is configured; a second call does nothing.

    A process that forks calls this in its children, because the exporter's thread does not survive a fork.
    """
    global _live
    if settings.otel_exporter_otlp_endpoint is None or (_live is not None and _live.pid == os.getpid()):
        return
    from app.observability.tracing.live import LiveTraces

    _live = LiveTraces(settings.otel_exporter_otlp_endpoint, role)
    _live.instrument_engine(runtime.current().database.engine)


def stop() -> None:
    """Stop tracing, and export pending spans within a short timeout; called before a process ends."""
    global _live
    stopped, _live = _live, None
    if stopped is not None and stopped.pid == os.getpid():
        stopped.stop()


def provider() -> "TracerProvider | None":
    """Return this process's tracer provider, or None if it is not traced."""
    return _live.provider if _live else None


def is_enabled() -> bool:
    """Return whether this process is traced."""
    return _live is not None


def start_saga_span(session: Session, saga: "SagaInstance") -> AbstractContextManager[Any]:
    """Start the root span of a new saga, in the current trace if there is one; messages of the block continue it."""
    return _live.sagas.start_saga_span(session, saga) if _live else nullcontext()


def continue_saga_span(session: Session, saga: "SagaInstance", name: str) -> AbstractContextManager[Any]:
    """Continue the trace of a saga that is driven from outside its tasks, in a span of this name."""
    return _live.sagas.continue_saga_span(session, saga, name) if _live else nullcontext()


def resend_span(session: Session, saga_id: str, callback: Callable[[], object]) -> Callable[[], object]:
    """Return the callback, which resends an event, wrapped in a span that continues the saga's trace."""
    return _live.sagas.resend_span(session, saga_id, callback) if _live else callback


def record_signal(signal: "SagaSignal") -> None:
    """Add a signal of a saga to the current span."""
    if _live:
        _live.record_signal(signal)


def current_trace_id() -> str | None:
    """Return the id of the current trace, or None if there is none."""
    return _live.current_trace_id() if _live else None


def trace_id_of(traceparent: str | None) -> str | None:
    """Return the id of a saga's trace, or None if it has none or it is not sampled."""
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    # the last bit of the flags is set if the trace is sampled: no collector has the others
    return found[1] if found and int(found[2], 16) & 1 else None
