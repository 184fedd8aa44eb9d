"""The engine, bound to CloudMart's Celery app and to the database of this process's runtime."""

from app import fault_injection, runtime
from app.celery import app
from app.observability import tracing
from durable_sagas import Sagas, SagaSignal

sagas = Sagas(
    app,
    lambda: runtime.current().database,
    options=lambda: runtime.current().saga_options,
    tracer=tracing,
)
runtime.on_change(sagas.forget_binding)
sagas.intercept(fault_injection.intercept)
sagas.signals.connect(tracing.record_signal)


@sagas.signals.connect
def announce_change(signal: SagaSignal) -> None:
    """Announce a saga's change to the web processes, if they share a Redis."""
    if publisher := runtime.current().change_publisher:
        publisher.announce(signal.saga_id)
