"""``python -m app worker QUEUE``: run the worker of one service in its own process."""

import logging
import os
import sys
import time
from pathlib import Path
from uuid import uuid4

import click
from celery.bin.base import CLIContext
from celery.bin.worker import worker as celery_worker

from app.celery import app as celery
from app.sagas import sagas
from app.settings import Settings
from cli.environment import USAGE_ERROR, load_runtime
from durable_sagas.messaging.batcher import MAX_BATCH

logger = logging.getLogger(__name__)

SESSION_NICENESS = Path("/proc/self/autogroup")
"""The niceness of this process's session as a whole; exists only where Linux schedules by session (autogroup)."""
MAX_ATTEMPTS = 30
RETRY_DELAY_SECONDS = 0.1


@click.command()
@click.argument("queue")
def worker(queue: str) -> None:
    """Work on one queue until SIGTERM; running steps are finished first, waiting messages return to the queue."""
    from workflows import QUEUES  # imports what each service does

    if queue not in QUEUES:
        click.echo(f"There is no queue {queue!r}. There are: {', '.join(QUEUES)}.", err=True)
        sys.exit(USAGE_ERROR)
    settings = load_runtime().settings
    lower_priority(settings.worker_niceness)
    # a unique name: RabbitMQ rejects one still held by a worker that is shutting down or was just killed
    name = f"{queue}-{uuid4().hex[:8]}@%h"
    # only Celery's worker command: importing its other commands, such as Flower's and the shell's, takes 20 MB more.
    # With events (-E), which Flower displays
    context = CLIContext(celery, no_color=False, workdir=None, quiet=True)
    # without gossip: its consumer crashes on a message that cannot be decoded
    celery_worker.main(
        ["-Q", queue, "-n", name, "-E", "--without-gossip", *_pool(queue, settings)],
        "celery worker",
        obj=context,
    )


def _pool(queue: str, settings: Settings) -> list[str]:
    """Return the worker options for concurrency and prefetch.

    A service that calls no external gateway hardly ever waits: one process gives the highest throughput, and batches
    the messages that arrive together.
    """
    # a simulated hang would block all messages of a single process
    if sagas.calls_gateway(queue) or settings.faults_allowed:
        return ["-c", str(settings.worker_concurrency)]
    return ["--pool", "solo", "-c", "1", "--prefetch-multiplier", str(MAX_BATCH)]


def lower_priority(niceness: int) -> None:
    """Lower the priority of this process and of those that it will start; 0 changes nothing.

    So the web processes, which users wait for, run first.
    """
    if niceness == 0:
        return
    os.nice(niceness)
    # a process's own niceness counts within its session only; only a session leader changes that of the session,
    # because other processes share it
    if SESSION_NICENESS.exists() and os.getsid(0) == os.getpid():
        _lower_session_priority(niceness)


def _lower_session_priority(niceness: int) -> None:
    for _ in range(MAX_ATTEMPTS):
        try:
            SESSION_NICENESS.write_text(str(niceness))
        except BlockingIOError:
            time.sleep(RETRY_DELAY_SECONDS)  # the kernel accepts one such change per 0.1 s, from all processes together
        except OSError as error:
            logger.info("the session keeps its priority", extra={"reason": error})
            return
        else:
            return
