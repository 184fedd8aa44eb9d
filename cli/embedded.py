"""Run worker and scheduler in threads of this process: the default, which needs no server and no Docker.

Messages live in this process's memory. A kill loses the messages and nothing else: the sweep reads from the log what
has to be sent again.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

from celery.utils.timer2 import Timer
from celery.worker import WorkController

from app.celery import app, configuration
from app.runtime import Runtime
from app.sagas import sagas
from workflows import QUEUES

logger = logging.getLogger(__name__)

THREADS = 16


class PromptTimer(Timer):
    """Celery's timer with an interruptible wait instead of a sleep, which may last for a second.

    So an earlier retry that is added meanwhile runs in time, and the exit of the process is not delayed.
    """

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


class EmbeddedStack:
    """A worker for all queues and the sweep, for as long as the ``with`` block runs."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._worker: WorkController | None = None
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        """Start both; return once the worker accepts messages. Raises RuntimeError if it does not within 15 s."""
        app.conf.update(configuration(self.runtime.settings))
        # without these, tasks of a worker in this process fail silently
        app.finalize()
        app.set_current()
        app.set_default()
        ready = threading.Event()
        self._worker = app.WorkController(
            pool_cls="threads",
            timer_cls=PromptTimer,
            concurrency=THREADS,
            queues=list(QUEUES),
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            ready_callback=lambda _: ready.set(),
        )
        self._start(self._worker.start, "worker")
        self._start(self._schedule, "scheduler")
        if not ready.wait(15):
            raise RuntimeError("the embedded worker did not start")
        return self

    def __exit__(self, *_: object) -> None:
        """Stop both: running tasks are finished, waiting ones are left to the sweep of the next start."""
        self.runtime.stopping.set()
        if self._worker:
            self._worker.stop()
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: Callable[[], object], name: str) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _schedule(self) -> None:
        while not self.runtime.stopping.wait(self.runtime.settings.sweep_seconds):
            try:
                sagas.sweep_if_available()
            except Exception:
                logger.exception("sweep failed, the next one tries again")
