"""``python -m app worker QUEUE``: run the worker of one service in its own process."""

import sys
from uuid import uuid4

import click
from celery.bin.base import CLIContext
from celery.bin.worker import worker as celery_worker

from app.celery import app as celery
from app.sagas import sagas
from app.settings import Settings
from cli.environment import USAGE_ERROR, load_runtime
from cli.niceness import lower_priority
from durable_sagas.messaging.batcher import MAX_BATCH


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
