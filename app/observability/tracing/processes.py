"""Which of Celery's processes is traced, under which name, and from when to when; ``app.celery`` imports this.

A worker is named by the queue it serves. With a pool of processes it is the children that are traced, each from its own
start: threads do not survive a fork. They end without Python's exit handlers, so they are told to send the rest. Web,
command line and the embedded default start their tracing themselves.
"""

from typing import Any

from celery.concurrency import get_implementation
from celery.concurrency.prefork import TaskPool as Prefork
from celery.signals import (
    beat_init,
    celeryd_init,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
)

from app import runtime
from app.observability import tracing

_role = "worker"


@celeryd_init.connect
def _name_worker(options: dict[str, Any], **_: object) -> None:
    global _role
    queues = options.get("queues") or ()
    named = queues.split(",") if isinstance(queues, str) else list(queues)
    _role = named[0] if len(named) == 1 else "worker"
    tracing.prepare(runtime.current().settings)


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
def _send_the_rest(**_: object) -> None:
    tracing.stop()
