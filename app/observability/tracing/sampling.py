"""What is not worth a trace of its own, whatever share of the rest is kept."""

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

SWEEP = frozenset({"apply_async/orchestrator.sweep", "run/orchestrator.sweep"})
"""The sweep runs every second and mostly finds nothing; when it drives a saga on it says so in that saga's trace."""


class DropIdleSpans(Sampler):
    """Leaves out the sweep, and statements that belong to no request and no task; asks another sampler for the rest."""

    def __init__(self, otherwise: Sampler) -> None:
        self.otherwise = otherwise

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
        """Decide by the span's name, and by what it would be part of."""
        alone = not trace.get_current_span(parent_context).get_span_context().is_valid
        if name in SWEEP or (alone and kind is SpanKind.CLIENT):
            return SamplingResult(Decision.DROP)
        return self.otherwise.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Return what this is, for people."""
        return f"DropIdleSpans({self.otherwise.get_description()})"
