"""Trace requests as spans, if tracing is enabled."""

from flask import Flask

from app import runtime
from app.observability import tracing

UNTRACED = r"/healthz$,/readyz$,/metrics$,/static/,/live(\?|$)"
"""URLs that are polled constantly, and streams that last as long as a page is open."""


def register(app: Flask) -> None:
    """Trace this process as ``web``, unless it is already traced under another name, and the app's requests."""
    tracing.start(runtime.current().settings, "web")
    provider = tracing.provider()
    if provider is None:
        return
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    # the SQL commenter would leave values in the thread's context for later requests
    FlaskInstrumentor.instrument_app(app, tracer_provider=provider, excluded_urls=UNTRACED, enable_commenter=False)
