"""Trace Celery's tasks and messages."""

import logging
from typing import Any

from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from sqlalchemy import select

from app import runtime
from app.errors import DatabaseUnavailable
from durable_sagas.ids import is_uuid
from durable_sagas.models import SagaInstance

logger = logging.getLogger(__name__)


class TracedCelery(CeleryInstrumentor):
    """OpenTelemetry's instrumentation of Celery, with two changes.

    A message's span ends before the message is sent. The original makes it the current span until Celery signals that
    the message was sent; if the broker does not accept it there is no such signal, and the span would stay current, and
    in memory, for ever.

    A saga's message without a trace joins the trace of its saga. Such a message was sent by a process that is not
    traced: one started before tracing was enabled, or the parent of a pool, which sends the error callback of a child
    that was killed.
    """

    def _trace_before_publish(self, *args: Any, **kwargs: Any) -> None:
        super()._trace_before_publish(*args, **kwargs)
        super()._trace_after_publish(*args, **kwargs)

    @staticmethod
    def _trace_after_publish(*args: Any, **kwargs: Any) -> None:
        """Do nothing: the span has ended."""

    def _trace_prerun(self, *args: Any, **kwargs: Any) -> None:
        saga_id = (kwargs.get("kwargs") or {}).get("saga_id")
        if saga_id and is_uuid(saga_id):
            _join_saga_trace(kwargs["task"].request, saga_id)
        super()._trace_prerun(*args, **kwargs)
        if saga_id:
            trace.get_current_span().set_attribute("saga.id", saga_id)


def _join_saga_trace(request: Any, saga_id: str) -> None:
    # an eager task has no message: it runs in its sender's context
    if request.is_eager or getattr(request, "traceparent", None):
        return
    try:
        with runtime.current().database.reading() as session:
            request.traceparent = session.scalar(select(SagaInstance.traceparent).where(SagaInstance.id == saga_id))
    except DatabaseUnavailable as error:
        logger.warning("the task is not in its saga's trace", extra={"saga_id": saga_id, "reason": error})
