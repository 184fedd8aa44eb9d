"""The embedded worker's timer: Celery's, but it waits where that one sleeps.

Celery's sleeps for up to a second with whatever it has to do next: a retry that is entered meanwhile, for sooner than
that, would be late, and the end of the process would wait for it to wake up.
"""

import threading
from collections.abc import Iterator
from typing import Any

from celery.utils.timer2 import Timer


class PromptTimer(Timer):
    """Calls what is entered when it is due, and stops when it is told to."""

    not_empty: threading.Condition
    schedule: Any
    scheduler: Iterator[tuple[float | None, Any]]
    _stopping = False

    def _next_entry(self) -> None:
        """Call the next entry if it is due; else wait until it may be, another is entered, or it is time to stop."""
        with self.not_empty:
            delay, entry = next(self.scheduler)
            if entry is None:
                if not self._stopping:
                    self.not_empty.wait(delay)
                return
        self.schedule.apply_entry(entry)

    def stop(self) -> None:
        """End the thread; returns when it has ended."""
        with self.not_empty:
            self._stopping = True
            self.not_empty.notify()
        super().stop()
