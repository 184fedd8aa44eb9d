"""Traces: which trace belongs to which saga, for whoever asks; switched on by ``OTEL_EXPORTER_OTLP_ENDPOINT``.

Without it nothing here imports OpenTelemetry, and each of these functions ends at its first look at ``_live``. With it
the modules beside it do the work.
"""

import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from app.observability.tracing.live import LiveTraces
    from app.saga.models import SagaInstance

_live: "LiveTraces | None" = None
_engines: WeakSet[Engine] = WeakSet()

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})")


def start(settings: Settings, role: str) -> None:
    """Trace this process under the name of its role, if the settings say where traces go; the second call does nothing.

    A process that forks does this in its children, for what it started would be lost there.
    """
    global _live
    if settings.otel_exporter_otlp_endpoint is None or (_live is not None and _live.pid == os.getpid()):
        return
    from app.observability.tracing.live import LiveTraces

    _live = LiveTraces(settings.otel_exporter_otlp_endpoint, role)
    for engine in _engines:
        _live.watch(engine)


def prepare(settings: Settings) -> None:
    """Import what tracing needs, if it is on: once in the parent of a pool, for all its children."""
    if settings.otel_exporter_otlp_endpoint is not None:
        import app.observability.tracing.live  # noqa: F401


def stop() -> None:
    """Send what has not been sent yet, for a moment at most, and trace no more: what a process does before it ends."""
    global _live
    ending, _live = _live, None
    if ending is not None and ending.pid == os.getpid():
        ending.stop()


def provider() -> "TracerProvider | None":
    """Return what makes this process's spans, or None if it makes none."""
    return _live.provider if _live else None


def watch(engine: Engine) -> None:
    """Have the engine's statements traced, from now on or from when tracing starts."""
    _engines.add(engine)
    if _live:
        _live.watch(engine)


def bound(callback: Callable[[], object]) -> Callable[[], object]:
    """Return the callback such that what it does belongs to the span in which it is bound, whenever it is called."""
    return _live.bound(callback) if _live else callback


def beginning(session: Session, saga: "SagaInstance") -> AbstractContextManager[Any]:
    """Give a new saga its trace, the current one if there is one; what the block registers to be sent goes on in it."""
    return _live.sagas.beginning(session, saga) if _live else nullcontext()


def driving_on(session: Session, saga: "SagaInstance", what: str) -> AbstractContextManager[Any]:
    """Go on with the trace of a saga that is moved from outside its tasks, in a span that says ``what`` moves it."""
    return _live.sagas.driving_on(session, saga, what) if _live else nullcontext()


def sending_again(session: Session, saga_id: str, callback: Callable[[], object]) -> Callable[[], object]:
    """Return the callback, which sends what did not arrive, such that it goes on with the trace of the saga."""
    return _live.sagas.sending_again(session, saga_id, callback) if _live else callback


def current_trace_id() -> str | None:
    """Return the id of the trace that is being written, or None if none is."""
    return _live.current_trace_id() if _live else None


def trace_id_of(traceparent: str | None) -> str | None:
    """Return the id of the trace that a saga belongs to, or None if nothing of it is kept."""
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    # the last bit of the flags says whether the trace is sampled: of others no collector has ever heard
    return found[1] if found and int(found[2], 16) & 1 else None
