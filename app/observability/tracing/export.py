"""Export spans to the collector: remove personal data, and log lost spans at most once in a while."""

import logging
import os
import re
import time
from collections.abc import Mapping, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Status
from opentelemetry.util.types import AttributeValue

logger = logging.getLogger(__name__)

QUIET_SECONDS = 300
"""The minimum interval between two log lines about lost spans."""

EXPORTED_ATTRIBUTES = frozenset((
    "saga.id", "order.id", "saga.type", "saga.pattern", "step", "operation", "attempt", "reason",
    "celery.action", "celery.task_name", "celery.state", "celery.retries", "celery.hostname",
    "messaging.message.id", "messaging.destination", "messaging.destination_kind",
    "http.method", "http.route", "http.scheme", "http.status_code",
    "http.request.method", "http.response.status_code", "url.scheme", "error.type", "exception.type",
    "db.system", "db.statement", "db.system.name", "db.query.text",
))  # fmt: skip
"""The only attributes that are exported.

Anything else may be personal data: requested URLs with search terms, visitors' addresses, error messages, and whatever
a later version of an instrumentation adds.
"""

_LIBRARY_LOGGER = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
_QUEUE_LOGGER = logging.getLogger("opentelemetry.sdk._shared_internal")
_TABLE_NAME = re.compile(r"\b(?:FROM|INTO|UPDATE)\s+\"?(\w+)", re.IGNORECASE)


def otlp_exporter(endpoint: str) -> SpanExporter:
    """Return an exporter for OTLP over HTTP; the standard variables configure it (headers, timeout, certificate …)."""
    return OTLPSpanExporter(os.environ.get(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) or f"{endpoint.rstrip('/')}/v1/traces")


class RedactingExporter(SpanExporter):
    """Exports spans without personal data, and logs failures at most once per ``QUIET_SECONDS``."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._reported_at: float | None = None
        self._last_line = _LastLine()
        _LIBRARY_LOGGER.addFilter(self._last_line)
        _QUEUE_LOGGER.addFilter(_rate_limit)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export a batch."""
        result = self._inner.export([without_personal_data(span) for span in spans])
        if result is SpanExportResult.SUCCESS:
            if self._reported_at is not None:
                logger.info("the collector takes traces again")
            self._reported_at = None
        elif self._reported_at is None or time.monotonic() - self._reported_at >= QUIET_SECONDS:
            self._reported_at = time.monotonic()
            logger.warning("traces are lost, the collector does not take them", extra={"reason": self._last_line.line})
        return result

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Return whether all pending spans were exported."""
        return self._inner.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Stop exporting."""
        self._inner.shutdown()
        _LIBRARY_LOGGER.removeFilter(self._last_line)

    cancel_retries = shutdown
    """Also interrupts the wait before a retry of the current batch."""


class _LastLine(logging.Filter):
    """Suppresses the library's log lines, one for every batch and every retry, and keeps the last one."""

    line = ""

    def filter(self, record: logging.LogRecord) -> bool:
        self.line = record.getMessage()
        return False


class _RateLimitFilter(logging.Filter):
    """Passes one log line per ``QUIET_SECONDS``."""

    _passed_at: float | None = None

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002  (logging's signature)
        now = time.monotonic()
        if self._passed_at is not None and now - self._passed_at < QUIET_SECONDS:
            return False
        self._passed_at = now
        return True


_rate_limit = _RateLimitFilter()


def without_personal_data(span: ReadableSpan) -> ReadableSpan:
    """Return a copy of the span that has only the exported attributes, and no free text."""
    attributes = _exported(span.attributes)
    return ReadableSpan(
        name=_name(span, attributes),
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=[Event(event.name, _exported(event.attributes), event.timestamp) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _exported(attributes: Mapping[str, AttributeValue] | None) -> dict[str, AttributeValue]:
    return {name: value for name, value in (attributes or {}).items() if name in EXPORTED_ATTRIBUTES}


def _name(span: ReadableSpan, attributes: Mapping[str, AttributeValue]) -> str:
    statement = attributes.get("db.statement") or attributes.get("db.query.text")
    if statement:  # the instrumentation names it by verb and database
        table = _TABLE_NAME.search(str(statement))
        verb = str(statement).split(maxsplit=1)[0].upper()
        return f"{verb} {table[1]}" if table else verb
    if (span.attributes or {}).keys() & {"http.target", "http.url", "url.path"} and "http.route" not in attributes:
        return span.name.partition(" ")[0]  # a path without a route may contain anything
    return span.name
