"""Batch the messages of the engine's tasks in a worker, by Celery's hook for one task: ``Task.Strategy``.

The tasks of the application on the same worker and queue are not affected.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from celery import Celery
from celery.concurrency.solo import TaskPool as SoloPool
from celery.worker.consumer import Consumer
from celery.worker.request import Request
from celery.worker.strategy import default
from kombu.message import Message

from durable_sagas.messaging.batcher import Batcher
from durable_sagas.messaging.transports.amqp import ack_together, is_buffered

if TYPE_CHECKING:
    from durable_sagas.engine import CeleryTask

_batchers: WeakKeyDictionary[Consumer, Batcher] = WeakKeyDictionary()


def batching_strategy(task: "CeleryTask", app: Celery, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return the handler of a task's messages: Celery's, which hands its requests to the batcher of the worker."""
    # in other pools a batch would run in another process than its tasks
    is_single = isinstance(consumer.pool, SoloPool) and consumer.hub is not None
    if not is_single or not task.batches:  # type: ignore[attr-defined]  # the engine's tasks have it
        return default(task, app, consumer, **options)
    batcher, engine = _batcher_of(consumer), task.engine  # type: ignore[attr-defined]  # the engine's tasks have one

    def add(request: Request) -> None:
        batcher.add(request, engine)

    handle = default(task, app, _DelegatingConsumer(consumer, add), **options)

    def handle_message(message: Message, body: Any, ack: Any, reject: Any, callbacks: Any) -> Any:
        # into the buffer of our transport, so that those of a batch are sent together, after what follows from it.
        # Celery acknowledges in the event loop's next turn, which after a restart also restores the prefetch limit
        if is_buffered(consumer.connection) and (consumer.restart_count == 0 or consumer._maximum_prefetch_restored):
            ack, reject = message.ack_log_error, message.reject_log_error
        return handle(message, body, ack, reject, callbacks)

    return handle_message


def _batcher_of(consumer: Any) -> Batcher:
    """Return a worker's batcher. Called again after a reconnection, when the broker redelivers the waiting messages."""
    if consumer in _batchers:
        _batchers[consumer].clear()
    else:
        _batchers[consumer] = Batcher(consumer.on_task_request, consumer.hub, lambda: ack_together(consumer.connection))
    return _batchers[consumer]


class _DelegatingConsumer:
    """A consumer whose requests are handed to a function."""

    def __init__(self, consumer: Consumer, on_task_request: Callable[[Request], None]) -> None:
        self._consumer = consumer
        self.on_task_request = on_task_request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)
