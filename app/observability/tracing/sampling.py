"""Exclude periodic background work from traces, whatever the sampling rate."""

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

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
