"""``python -m app worker QUEUE``: the worker of one service, as a process of its own."""

import sys
from uuid import uuid4

import click
from celery.bin.base import CLIContext
from celery.bin.worker import worker as celery_worker

from app.celery import QUEUES
from app.celery import app as celery
from app.messaging.batcher import MAX_BATCH
from app.saga.commands import calls_outside
from app.settings import Settings
from cli.environment import USAGE_ERROR, load_runtime
from cli.niceness import lower_priority


@click.command()
@click.argument("queue")
def worker(queue: str) -> None:
    """Work on one queue until SIGTERM; running steps are finished first, what waits goes back to the queue."""
    if queue not in QUEUES:
        click.echo(f"There is no queue {queue!r}. There are: {', '.join(QUEUES)}.", err=True)
        sys.exit(USAGE_ERROR)
    here = load_runtime()
    lower_priority(here.settings.worker_niceness)
    # RabbitMQ refuses a name that a worker still holds which is shutting down, or was killed a moment ago
    name = f"{queue}-{uuid4().hex[:8]}@%h"
    # Celery's own command by itself: beside the others, Flower's and a shell's among them, it takes 20 MB more.
    # With events, which is what Flower shows
    context = CLIContext(celery, no_color=False, workdir=None, quiet=True)
    # without gossip, whose consumer a message that cannot be decoded ends
    celery_worker.main(
        ["-Q", queue, "-n", name, "-E", "--without-gossip", *_pool(queue, here.settings)], "celery worker", obj=context
    )


def _pool(queue: str, settings: Settings) -> list[str]:
    """Return the options that say how many processes work, and how many messages they hold.

    Who calls nobody outside hardly ever waits: one process does most, and does together what has come together.
    """
    import workflows  # noqa: F401  (declares what each service does)

    # a fault that hangs would hold up all that the process has to do
    if calls_outside(queue) or settings.faults_allowed:
        return ["-c", str(settings.worker_concurrency)]
    return ["--pool", "solo", "-c", "1", "--prefetch-multiplier", str(MAX_BATCH)]
