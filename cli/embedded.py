"""Run worker and scheduler in threads of this process: the default, which needs no server and no Docker.

Messages live in this process's memory. A kill loses the messages and nothing else: the sweep reads from the log what
has to be sent again.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.utils.timer2 import Timer

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


@contextmanager
def embedded_stack(runtime: Runtime) -> Iterator[None]:
    """Run a worker for all queues and the sweep, for as long as the ``with`` block runs.

    It begins once the worker accepts messages. Raises RuntimeError if it does not within 15 s. At its end running tasks
    are finished, and waiting ones are left to the sweep of the next start.
    """
    app.conf.update(configuration(runtime.settings))
    # without these, tasks of a worker in this process fail silently
    app.finalize()
    app.set_current()
    app.set_default()
    sagas.engine.served.reports = True
    ready = threading.Event()
    worker = app.WorkController(
        pool_cls="threads",
        timer_cls=PromptTimer,
        concurrency=THREADS,
        queues=list(QUEUES),
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        ready_callback=lambda _: ready.set(),
    )
    threads = [
        threading.Thread(target=worker.start, name="worker", daemon=True),
        threading.Thread(target=_sweep, args=(runtime,), name="scheduler", daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        if not ready.wait(15):
            raise RuntimeError("the embedded worker did not start")
        yield
    finally:
        sagas.engine.served.reports = False
        runtime.stopping.set()
        worker.stop()
        for thread in threads:
            thread.join(10)


def _sweep(runtime: Runtime) -> None:
    while not runtime.stopping.wait(runtime.settings.sweep_seconds):
        try:
            sagas.sweep_if_available()
        except Exception:
            logger.exception("sweep failed, the next one tries again")
