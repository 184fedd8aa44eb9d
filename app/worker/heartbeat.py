"""Maintain a heartbeat file, so that a health check need not query a worker or beat.

The heartbeat shows not that a process runs but that it can communicate with the broker: a worker refreshes it from the
timer of its consumer's loop, which stops while the connection is lost, and beat when it has sent a message. The file's
modification time is the moment at which the heartbeat expires.
"""

import os
import time
from pathlib import Path
from typing import Any

from celery import bootsteps
from celery.beat import Scheduler

from app import runtime

INTERVAL_SECONDS = 5
TTL_SECONDS = 20
"""The lifetime of a heartbeat; generous, because a worker with half a CPU may be late."""


def refresh(ttl: float) -> None:
    """Refresh the heartbeat file, if HEARTBEAT_FILE is set; it expires after ``ttl`` seconds: with 0 now.

    An expired file stays: a missing one means that there was no heartbeat yet.
    """
    path = runtime.current().settings.heartbeat_file
    if path:
        expires_at = time.time() + ttl
        Path(path).touch()
        os.utime(path, (expires_at, expires_at))


class Heartbeat(bootsteps.StartStopStep):
    """Refreshes the heartbeat between start and stop of a worker's consumer; a lost connection stops it."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    _timer: Any = None

    def start(self, consumer: Any) -> None:
        """Start the timer, once the consumer has its queues."""
        refresh(TTL_SECONDS)
        self._timer = consumer.timer.call_repeatedly(INTERVAL_SECONDS, refresh, (TTL_SECONDS,))

    def stop(self, consumer: Any) -> None:  # noqa: ARG002  (Celery's)
        """Stop the timer, and let the heartbeat expire until the consumer is back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        refresh(0)


class BeatingScheduler(Scheduler):
    """Celery's scheduler, which refreshes the heartbeat after each message that the broker accepted."""

    def apply_async(self, *args: Any, **kwargs: Any) -> Any:
        """Send an entry of the schedule, and refresh the heartbeat. Raises SchedulingError."""
        sent = super().apply_async(*args, **kwargs)
        refresh(TTL_SECONDS + 2 * runtime.current().settings.sweep_seconds)
        return sent
