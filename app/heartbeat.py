"""A sign of life in a file, for whoever asks whether a worker or beat is well without troubling it.

The sign is not that a process runs but that it is on speaking terms with the broker: a worker gives it from the timer
of its consumer's loop, which stands still while the connection is lost, and beat when it has sent something. The
file's modification time is the moment until which the sign is good.
"""

import os
import time
from pathlib import Path
from typing import Any

from celery import bootsteps
from celery.beat import Scheduler

from app import runtime

EVERY_SECONDS = 5
TTL_SECONDS = 20
"""A worker with half a CPU may be late."""


def beat(good_for: float) -> None:
    """Give a sign of life that is good for so many seconds, if HEARTBEAT_FILE says where."""
    path = runtime.current().settings.heartbeat_file
    if path:
        until = time.time() + good_for
        Path(path).touch()
        os.utime(path, (until, until))


def fall_silent() -> None:
    """Let the heartbeat expire now. The file stays: a missing one says that there has been no heartbeat yet."""
    beat(0)


class Heartbeat(bootsteps.StartStopStep):
    """Has a worker's consumer give signs of life between its start and its stop, which a lost connection is."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        """Begin, now that the consumer has its queues."""
        beat(TTL_SECONDS)
        self._timer = consumer.timer.call_repeatedly(EVERY_SECONDS, beat, (TTL_SECONDS,))

    def stop(self, consumer: Any) -> None:  # noqa: ARG002  (Celery's)
        """Take the sign away, until the consumer is back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        fall_silent()


class BeatingScheduler(Scheduler):
    """Celery's scheduler, which gives a sign of life whenever the broker has taken what it sends."""

    def apply_async(self, *args: Any, **kwargs: Any) -> Any:
        """Send an entry of the schedule. Raises SchedulingError."""
        sent = super().apply_async(*args, **kwargs)
        beat(TTL_SECONDS + 2 * runtime.current().settings.sweep_seconds)
        return sent
