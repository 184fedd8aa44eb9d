"""The interface of a tracer, such as OpenTelemetry's."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from sqlalchemy.orm import Session

from durable_sagas.models import SagaInstance


class Tracer(Protocol):
    """Spans of sagas as a whole; those of tasks are left to an instrumentation of Celery. By default, none."""

    def is_enabled(self) -> bool:
        """Return whether spans are recorded. A span belongs to one task, so tasks are not batched meanwhile."""
        return False

    def start_saga_span(self, session: Session, saga: SagaInstance) -> AbstractContextManager[Any]:  # noqa: ARG002
        """Start the root span of a new saga; messages of the block continue it."""
        return nullcontext()

    def continue_saga_span(self, session: Session, saga: SagaInstance, name: str) -> AbstractContextManager[Any]:  # noqa: ARG002
        """Continue the trace of a saga that is driven from outside its tasks, in a span of this name."""
        return nullcontext()

    def resend_span(self, session: Session, saga_id: str, callback: Callable[[], object]) -> Callable[[], object]:  # noqa: ARG002
        """Return the callback, which sends an event again, such that it continues the saga's trace."""
        return callback


class NoTracer(Tracer):
    """Records nothing."""
