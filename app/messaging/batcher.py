"""Gathers, in a worker, the messages that have arrived together, so that they can be done together.

A worker of one process (``--pool solo``) begins at once with a message that finds it idle. What arrives while it works
waits in its connection; it is read then, and done together with what else there is for the same task.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from celery.worker.request import Request
from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Entry

from app.messaging import batching
from app.messaging.batching import Wanted
from app.messaging.publisher import publish_batch
from app.observability import tracing

MAX_BATCH = 64
"""So many messages are done in one transaction at most: what a repetition costs, and how long its locks are held."""

QUIET_SECONDS = 0.001
"""When no message was read for so long, the connection holds no more; it takes a fraction of that to read one."""

BUSY_SECONDS = 0.005
"""A message that comes so soon after the last was done may be one of many."""

LOST_SECONDS = 1.0
"""A look that is so long overdue was lost: with a connection that breaks, Celery may forget what it had to do later."""


class Batcher:
    """Between a worker's consumer and its pool.

    ``hand_on`` gives a request to the pool, which runs and acknowledges it at once; acknowledgements that are given
    inside ``acked_together()`` leave when it ends.
    """

    def __init__(
        self, hand_on: Callable[[Request], object], hub: Hub, acked_together: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._hand_on = hand_on
        self._hub = hub
        self._acked_together = acked_together
        self._waiting: dict[str, list[Request]] = {}
        self._grown = False
        self._next_look: Entry | None = None
        self._due = 0.0
        self._ended = 0.0

    def take(self, request: Request) -> None:
        """Take a request; it is handed on now, or soon with others of its task."""
        # a span is written for each task, around its own work: there is none for that of several
        if request.request_dict.get("retries") or not batching.possible(request.name) or tracing.provider():
            self._hand_on(request)
            return
        waiting = self._waiting.setdefault(request.name, [])
        waiting.append(request)
        self._grown = True
        idle = not self._next_look and time.monotonic() - self._ended > BUSY_SECONDS
        if idle or len(waiting) >= MAX_BATCH:
            self._begin(request.name)
        if self._waiting:
            self._look_soon()

    def forget(self) -> None:
        """Forget what waits: its connection has gone, and the broker delivers it again."""
        self._waiting.clear()

    def _look_soon(self) -> None:
        if self._next_look:
            if time.monotonic() < self._due + LOST_SECONDS:
                return
            self._next_look.cancel()
        self._due = time.monotonic() + QUIET_SECONDS
        self._next_look = self._hub.call_later(QUIET_SECONDS, self._look)

    def _look(self) -> None:
        """Begin with what waits longest, unless more is coming. The rest waits on: it may find company meanwhile."""
        self._next_look = None
        if not self._waiting:
            return
        try:
            if not self._grown:
                self._begin(next(iter(self._waiting)))
        finally:
            self._grown = False
            # only now, or the loop would call it before it reads
            if self._waiting:
                self._look_soon()

    def _begin(self, task_name: str) -> None:
        requests = self._waiting.pop(task_name)
        try:
            if len(requests) == 1:
                self._hand_on(requests[0])
                return
            wanted = [Wanted(request.id, request.kwargs) for request in requests]
            # what follows leaves before the acknowledgements: a message whose successor was lost comes again
            with self._acked_together(), publish_batch(), batching.done(task_name, wanted):
                for request in requests:
                    self._hand_on(request)
        finally:
            self._ended = time.monotonic()
