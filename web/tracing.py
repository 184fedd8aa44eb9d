"""Requests as spans, where tracing is on."""

from flask import Flask

from app import runtime
from app.observability import tracing

UNTRACED = r"/healthz$,/readyz$,/metrics$,/static/,/live(\?|$)"
"""Addresses that are asked for all the time, and streams that last as long as somebody looks."""


def register(app: Flask) -> None:
    """Trace this process as ``web``, unless it is traced under another name already, and the app's requests in it."""
    tracing.start(runtime.current().settings, "web")
    provider = tracing.provider()
    if provider is None:
        return
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    # a commenter would leave its mark in the context of the thread, for requests to come
    FlaskInstrumentor.instrument_app(app, tracer_provider=provider, excluded_urls=UNTRACED, enable_commenter=False)
