"""Start and stop tracing in Celery's processes; imported by ``app.celery``.

A worker is named after the queue that it serves. In a prefork pool the children are traced, each from its own start,
because threads do not survive a fork. Children end without Python's exit handlers, so a signal handler exports their
pending spans. Web, command line and the embedded default start tracing themselves.
"""

from typing import Any

from celery.concurrency import get_implementation
from celery.concurrency.prefork import TaskPool as Prefork
from celery.signals import beat_init, celeryd_init, worker_init, worker_process_init, worker_process_shutdown

from app import runtime
from app.observability import tracing

_role = "worker"


@celeryd_init.connect
def _name_worker(options: dict[str, Any], **_: object) -> None:
    global _role
    queues = options.get("queues") or ()
    names = queues.split(",") if isinstance(queues, str) else list(queues)
    _role = names[0] if len(names) == 1 else "worker"
    if runtime.current().settings.otel_exporter_otlp_endpoint is not None:
        import app.observability.tracing.live  # noqa: F401  (in the parent of a pool, once for all its children)


@worker_process_init.connect
def _start_in_child(**_: object) -> None:
    tracing.start(runtime.current().settings, _role)


@worker_init.connect
def _start_without_children(sender: Any, **_: object) -> None:
    if not issubclass(get_implementation(sender.pool_cls), Prefork):
        tracing.start(runtime.current().settings, _role)


@beat_init.connect
def _start_in_beat(**_: object) -> None:
    tracing.start(runtime.current().settings, "beat")


@worker_process_shutdown.connect
def _export_pending_spans(**_: object) -> None:
    tracing.stop()
