"""The embedded worker's timer: Celery's, with an interruptible wait instead of a sleep.

Celery's timer sleeps for up to a second before its next entry: an earlier retry that is added meanwhile would run late,
and the exit of the process would be delayed until the timer wakes up.
"""

import threading
from collections.abc import Iterator
from typing import Any

from celery.utils.timer2 import Timer


class PromptTimer(Timer):
    """Runs entries when they are due, and stops immediately when requested."""

    not_empty: threading.Condition
    schedule: Any
    scheduler: Iterator[tuple[float | None, Any]]
    _stopping = False

    def _next_entry(self) -> None:
        """Run the next entry if it is due; else wait until it is, another one is added, or the timer is stopped."""
        with self.not_empty:
            delay, entry = next(self.scheduler)
            if entry is None:
                if not self._stopping:
                    self.not_empty.wait(delay)
                return
        self.schedule.apply_entry(entry)

    def stop(self) -> None:
        """Stop the thread; return when it has ended."""
        with self.not_empty:
            self._stopping = True
            self.not_empty.notify()
        super().stop()
