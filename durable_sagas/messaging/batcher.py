"""Batch messages that have arrived together in a worker, so that they are processed in one transaction.

A worker of one process (``--pool solo``) starts a message at once if it is idle. Messages that arrive while it works
wait in its connection; they are read afterwards, and processed together with others for the same task.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from celery.worker.request import Request
from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Entry

from durable_sagas.messaging.batching import BatchedMessage
from durable_sagas.messaging.publisher import sent_at_of

if TYPE_CHECKING:
    from durable_sagas.engine import Engine

MAX_BATCH = 64
"""Maximum size of a batch. It bounds the cost of a repetition, and how long the transaction holds its locks."""

QUIET_SECONDS = 0.001
"""After this long without a message the connection has none left; reading one takes a fraction of it."""

BUSY_SECONDS = 0.005
"""A message that arrives this soon after the last batch ended may be one of many."""

LOST_SECONDS = 1.0
"""A flush overdue by this much was lost: when a connection breaks, Celery may drop its scheduled calls."""


class Batcher:
    """Batches requests between a worker's consumer and its pool.

    ``execute`` passes a request to the pool, which runs and acknowledges it at once; acknowledgements inside
    ``ack_together()`` are sent when it ends.
    """

    def __init__(
        self, execute: Callable[[Request], object], hub: Hub, ack_together: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._execute = execute
        self._hub = hub
        self._ack_together = ack_together
        self._waiting: dict[str, list[Request]] = {}
        self._engines: dict[str, Engine] = {}
        self._received_since_flush = False
        self._next_flush: Entry | None = None
        self._due = 0.0
        self._ended = 0.0

    def add(self, request: Request, engine: "Engine") -> None:
        """Add a request of a task of this engine; it is executed now, or soon in a batch of its task."""
        # a span belongs to one task and covers its work: there is none for the work of a batch
        is_batchable = engine.batches.is_batchable(request.name) and not engine.tracer.is_enabled()
        if request.request_dict.get("retries") or not is_batchable:
            self._execute(request)
            return
        self._engines[request.name] = engine
        waiting = self._waiting.setdefault(request.name, [])
        waiting.append(request)
        self._received_since_flush = True
        idle = not self._next_flush and time.monotonic() - self._ended > BUSY_SECONDS
        if idle or len(waiting) >= MAX_BATCH:
            self._flush(request.name)
        if self._waiting:
            self._schedule_flush()

    def clear(self) -> None:
        """Clear the waiting requests: their connection is lost, so the broker redelivers them."""
        self._waiting.clear()

    def _schedule_flush(self) -> None:
        if self._next_flush:
            if time.monotonic() < self._due + LOST_SECONDS:
                return
            self._next_flush.cancel()
        self._due = time.monotonic() + QUIET_SECONDS
        self._next_flush = self._hub.call_later(QUIET_SECONDS, self._flush_if_idle)

    def _flush_if_idle(self) -> None:
        """Execute the oldest batch if no new message has arrived for QUIET_SECONDS. The others keep waiting."""
        self._next_flush = None
        if not self._waiting:
            return
        try:
            if not self._received_since_flush:
                self._flush(next(iter(self._waiting)))
        finally:
            self._received_since_flush = False
            # scheduled only now, or the event loop would call it before it reads
            if self._waiting:
                self._schedule_flush()

    def _flush(self, task_name: str) -> None:
        requests, engine = self._waiting.pop(task_name), self._engines[task_name]
        try:
            if len(requests) == 1:
                self._execute(requests[0])
                return
            messages = [
                BatchedMessage(request.id, request.kwargs, sent_at_of(request.request_dict)) for request in requests
            ]
            # the next messages leave before the acknowledgements: a message whose successor was lost is redelivered
            results = engine.batches.batch_results(task_name, messages)
            with self._ack_together(), engine.publisher.publish_batch(), results:
                for request in requests:
                    self._execute(request)
        finally:
            self._ended = time.monotonic()
