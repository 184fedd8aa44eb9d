"""The engine, bound to CloudMart's Celery app and to the database of this process's runtime."""

from app import fault_injection, runtime
from app.celery import app
from app.observability import tracing
from durable_sagas import Options, Sagas
from durable_sagas.messaging.publisher import service_of


def _options() -> Options:
    settings = runtime.current().settings
    return Options(
        step_timeout_seconds=settings.step_timeout_seconds,
        saga_timeout_seconds=settings.order_timeout_seconds,
        stall_seconds=settings.stall_seconds,
        sweep_seconds=settings.sweep_seconds,
        acceptable_wait_seconds=settings.acceptable_wait_seconds,
        max_unfinished=settings.max_unfinished,
    )


sagas = Sagas(app, lambda: runtime.current().database, options=_options, tracer=tracing)
runtime.on_change(sagas.reset_binding)
sagas.intercept(fault_injection.intercept)
sagas.signals.connect(tracing.record_signal)
sagas.signals.connect(runtime.announce_change)


def route(task_name: str, *_: object, **__: object) -> dict[str, str] | None:
    """Return the route of a task that is sent by its name alone: to its service's queue. See ``task_routes``."""
    service = service_of(task_name)
    return {"queue": service} if service in sagas.services else None
