"""Gathers, in a worker, the messages that have arrived together, so that they can be done together.

A worker of one process (``--pool solo``) takes what its connection holds, and begins when nothing more comes or when it
has enough. Nothing waits for company: a message that is alone is begun with at once.
"""

from collections.abc import Callable

from celery.worker.request import Request
from kombu.asynchronous import Hub

from app import together, tracing
from app.together import Wanted

MOST = 32
"""So many messages are done in one transaction at most: what a repetition costs, and how long its locks are held."""

QUIET_LOOKS = 2
"""After so many looks at the connection without a new message, nothing more waits there."""


class Gathering:
    """Between a worker's consumer and its pool. ``hand_on`` gives a request to the pool, which runs it at once."""

    def __init__(self, hand_on: Callable[[Request], object], hub: Hub) -> None:
        self._hand_on = hand_on
        self._hub = hub
        self._waiting: dict[str, list[Request]] = {}
        self._grown = False
        self._looking = False

    def take(self, request: Request) -> None:
        """Take a request; it is handed on now, or soon with others of its task."""
        # a span is written for each task, around its own work: there is none for that of several
        if request.request_dict.get("retries") or not together.possible(request.name) or tracing.provider():
            self._hand_on(request)
            return
        waiting = self._waiting.setdefault(request.name, [])
        waiting.append(request)
        self._grown = True
        if len(waiting) >= MOST:
            self._begin(request.name)
        elif not self._looking:
            self._looking = True
            self._look(QUIET_LOOKS)

    def _look(self, left: int) -> None:
        """Look again with the loop's next turn, in which it reads what its connection holds."""
        if self._grown:
            self._grown, left = False, QUIET_LOOKS
        if left:
            # not call_soon: the loop may sleep for a second before it calls
            self._hub.call_later(0, self._look, left - 1)
            return
        self._looking = False
        for task_name in list(self._waiting):
            self._begin(task_name)

    def _begin(self, task_name: str) -> None:
        requests = self._waiting.pop(task_name)
        if len(requests) == 1:
            self._hand_on(requests[0])
            return
        with together.done(task_name, [Wanted(request.id, request.kwargs) for request in requests]):
            for request in requests:
                self._hand_on(request)
